//! ReLU on the CPU: fixed blocks of elements.

use dfdx::shapes::Shape;
use dfdx::tensor::{Cpu, Tensor};
use rayon::prelude::*;

use super::ReLUKernel;
use crate::bridge::storage::{as_mut_slice, as_slice};
use crate::element::Element;
use crate::error::Result;
use crate::ops::blocks::ELEMENTS;
use crate::ops::Fill;
use crate::simd::{multiversion, relu, relu_grad};

multiversion! {
    fn forward<E>(x: &[E], y: &mut [E]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = relu(x);
        }
    }
}

multiversion! {
    fn backward<E>(y: &[E], dy: &[E], dx: &mut [E], fill: Fill) {
        for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            fill.write(dx, relu_grad(y, dy));
        }
    }
}

impl<E: Element> ReLUKernel<E> for Cpu {
    fn relu_forward<S: Shape>(x: &Tensor<S, E, Self>, y: &mut Tensor<S, E, Self>) -> Result<()> {
        as_slice("relu", x)?
            .par_chunks(ELEMENTS)
            .zip(as_mut_slice("relu", y)?.par_chunks_mut(ELEMENTS))
            .for_each(|(x, y)| forward(x, y));
        Ok(())
    }

    fn relu_backward<S: Shape>(
        y: &Tensor<S, E, Self>,
        dy: &Self::Vec,
        dx: &mut Self::Vec,
        fill: Fill,
    ) -> Result<()> {
        as_slice("relu", y)?
            .par_chunks(ELEMENTS)
            .zip(dy.par_chunks(ELEMENTS))
            .zip(dx.par_chunks_mut(ELEMENTS))
            .for_each(|((y, dy), dx)| backward(y, dy, dx, fill));
        Ok(())
    }
}
