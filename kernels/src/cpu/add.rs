//! Sums on the CPU: fixed blocks of elements.

use rayon::prelude::*;

use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::blocks::ELEMENTS;
use crate::cpu::element::Element;
use crate::cpu::simd::multiversion;

multiversion! {
    fn block_forward<E>(a: &[E], b: &[E], y: &mut [E]) {
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

concrete! {
    /// y = a + b
    pub fn forward<E: Element>(a: &[E], b: &[E], y: &mut [E]) {
        a.par_chunks(ELEMENTS)
            .zip(b.par_chunks(ELEMENTS))
            .zip(y.par_chunks_mut(ELEMENTS))
            .for_each(|((a, b), y)| block_forward(a, b, y));
    }

    /// dx (+)= dy, the gradient of either term
    pub fn backward<E: Element>(dy: &[E], dx: &mut [E], fill: Fill) {
        dx.par_chunks_mut(ELEMENTS)
            .zip(dy.par_chunks(ELEMENTS))
            .for_each(|(dx, dy)| write(dy, dx, fill));
    }
}
