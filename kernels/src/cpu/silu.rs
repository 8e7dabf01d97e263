//! SiLU on the CPU: fixed blocks of elements.

use rayon::prelude::*;

use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::blocks::ELEMENTS;
use crate::cpu::element::Element;
use crate::cpu::simd::{from_f64, multiversion};

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
    fn block_forward<E>(x: &[E], y: &mut [E]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = silu(x);
        }
    }
}

multiversion! {
    fn block_backward<E>(x: &[E], dy: &[E], dx: &mut [E], fill: Fill) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            fill.write(dx, silu_grad(x, dy));
        }
    }
}

concrete! {
    /// y = x sigmoid(x)
    pub fn forward<E: Element>(x: &[E], y: &mut [E]) {
        x.par_chunks(ELEMENTS)
            .zip(y.par_chunks_mut(ELEMENTS))
            .for_each(|(x, y)| block_forward(x, y));
    }

    /// dx (+)= dy times the derivative at x
    pub fn backward<E: Element>(x: &[E], dy: &[E], dx: &mut [E], fill: Fill) {
        x.par_chunks(ELEMENTS)
            .zip(dy.par_chunks(ELEMENTS))
            .zip(dx.par_chunks_mut(ELEMENTS))
            .for_each(|((x, dy), dx)| block_backward(x, dy, dx, fill));
    }
}
