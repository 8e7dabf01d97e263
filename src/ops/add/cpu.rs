//! Sums on the CPU: fixed blocks of elements.

use dfdx::shapes::Shape;
use dfdx::tensor::{Cpu, Tensor};
use rayon::prelude::*;

use super::AddKernel;
use crate::bridge::grad::Accumulate;
use crate::bridge::storage::{as_mut_slice, as_slice};
use crate::bridge::Pooling;
use crate::element::Element;
use crate::error::Result;
use crate::ops::blocks::ELEMENTS;
use crate::ops::Fill;
use crate::simd::multiversion;

multiversion! {
    fn forward<E>(a: &[E], b: &[E], y: &mut [E]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}

multiversion! {
    /// `to` += `from`, or `to` = `from`.
    pub(crate) fn write<E>(from: &[E], to: &mut [E], fill: Fill) {
        match fill {
            Fill::Add => {
                for (to, &from) in to.iter_mut().zip(from) {
                    *to += from;
                }
            }
            Fill::Overwrite => to.copy_from_slice(from),
        }
    }
}

impl<E: Element> AddKernel<E> for Cpu {
    fn add_forward<S: Shape>(
        a: &Tensor<S, E, Self>,
        b: &Tensor<S, E, Self>,
        y: &mut Tensor<S, E, Self>,
    ) -> Result<()> {
        as_slice("add", a)?
            .par_chunks(ELEMENTS)
            .zip(as_slice("add", b)?.par_chunks(ELEMENTS))
            .zip(as_mut_slice("add", y)?.par_chunks_mut(ELEMENTS))
            .for_each(|((a, b), y)| forward(a, b, y));
        Ok(())
    }

    fn add_backward(dy: &Self::Vec, dx: &mut Self::Vec, fill: Fill) {
        let (dx, dy): (&mut [E], &[E]) = (dx, dy);
        dx.par_chunks_mut(ELEMENTS)
            .zip(dy.par_chunks(ELEMENTS))
            .for_each(|(dx, dy)| write(dy, dx, fill));
    }
}

impl<E: Element> Accumulate<E> for Cpu
where
    Cpu: Pooling<E>,
{
    fn accumulate(sum: &mut Self::Vec, term: &Self::Vec) {
        Self::add_backward(term, sum, Fill::Add);
    }
}
