//! SiLU on the CPU: fixed blocks of elements.

use dfdx::shapes::Shape;
use dfdx::tensor::{Cpu, Tensor};
use rayon::prelude::*;

use super::SiLUKernel;
use crate::bridge::storage::{as_mut_slice, as_slice};
use crate::element::Element;
use crate::error::Result;
use crate::ops::blocks::ELEMENTS;
use crate::ops::Fill;
use crate::simd::{from_f64, multiversion};

/// z sigmoid(z)
#[inline(always)]
pub(crate) fn silu<E: Element>(z: E) -> E {
    z * z.vector_sigmoid()
}

/// dy times the derivative of SiLU at z.
#[inline(always)]
pub(crate) fn silu_grad<E: Element>(z: E, dy: E) -> E {
    let s = z.vector_sigmoid();
    dy * (s + z * s * (E::one() - s))
}

/// [`silu_grad`] given also `y` = silu(z): the sigmoid is y / z, without an exponential.
#[inline(always)]
pub(crate) fn silu_grad_from_output<E: Element>(z: E, y: E, dy: E) -> E {
    // Below, y has too few bits left; 1 / 2 is exact there.
    let s = if z.abs() < from_f64(1e-30) {
        from_f64(0.5)
    } else {
        y / z
    };
    dy * (s + y * (E::one() - s))
}

multiversion! {
    fn forward<E>(x: &[E], y: &mut [E]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = silu(x);
        }
    }
}

multiversion! {
    fn backward<E>(x: &[E], dy: &[E], dx: &mut [E], fill: Fill) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            fill.write(dx, silu_grad(x, dy));
        }
    }
}

impl<E: Element> SiLUKernel<E> for Cpu {
    fn silu_forward<S: Shape>(x: &Tensor<S, E, Self>, y: &mut Tensor<S, E, Self>) -> Result<()> {
        as_slice("silu", x)?
            .par_chunks(ELEMENTS)
            .zip(as_mut_slice("silu", y)?.par_chunks_mut(ELEMENTS))
            .for_each(|(x, y)| forward(x, y));
        Ok(())
    }

    fn silu_backward<S: Shape>(
        x: &Tensor<S, E, Self>,
        dy: &Self::Vec,
        dx: &mut Self::Vec,
        fill: Fill,
    ) -> Result<()> {
        as_slice("silu", x)?
            .par_chunks(ELEMENTS)
            .zip(dy.par_chunks(ELEMENTS))
            .zip(dx.par_chunks_mut(ELEMENTS))
            .for_each(|((x, dy), dx)| backward(x, dy, dx, fill));
        Ok(())
    }
}
