//! The sum with ReLU on the CPU: fixed blocks of elements.

use dfdx::shapes::Shape;
use dfdx::tensor::{Cpu, Tensor};
use rayon::prelude::*;

use super::AddReLUKernel;
use crate::bridge::storage::{as_mut_slice, as_slice};
use crate::element::Element;
use crate::error::Result;
use crate::ops::blocks::ELEMENTS;
use crate::simd::{multiversion, relu, relu_grad};

multiversion! {
    fn forward<E>(a: &[E], b: &[E], y: &mut [E]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = relu(a + b);
        }
    }
}

multiversion! {
    fn backward<E>(y: &[E], dy: &mut [E]) {
        for (dy, &y) in dy.iter_mut().zip(y) {
            *dy = relu_grad(y, *dy);
        }
    }
}

impl<E: Element> AddReLUKernel<E> for Cpu {
    fn add_relu_forward<S: Shape>(
        a: &Tensor<S, E, Self>,
        b: &Tensor<S, E, Self>,
        y: &mut Tensor<S, E, Self>,
    ) -> Result<()> {
        as_slice("add_relu", a)?
            .par_chunks(ELEMENTS)
            .zip(as_slice("add_relu", b)?.par_chunks(ELEMENTS))
            .zip(as_mut_slice("add_relu", y)?.par_chunks_mut(ELEMENTS))
            .for_each(|((a, b), y)| forward(a, b, y));
        Ok(())
    }

    fn add_relu_backward<S: Shape>(y: &Tensor<S, E, Self>, dy: &mut Self::Vec) -> Result<()> {
        as_slice("add_relu", y)?
            .par_chunks(ELEMENTS)
            .zip(dy.par_chunks_mut(ELEMENTS))
            .for_each(|(y, dy)| backward(y, dy));
        Ok(())
    }
}
