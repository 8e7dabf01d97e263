//! The sum with ReLU on the CPU: fixed blocks of elements.

use rayon::prelude::*;

use crate::concrete::concrete;
use crate::cpu::blocks::ELEMENTS;
use crate::cpu::element::Element;
use crate::cpu::simd::{multiversion, relu, relu_grad};

multiversion! {
    fn block_forward<E>(a: &[E], b: &[E], y: &mut [E]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = relu(a + b);
        }
    }
}

multiversion! {
    fn block_backward<E>(y: &[E], dy: &mut [E]) {
        for (dy, &y) in dy.iter_mut().zip(y) {
            *dy = relu_grad(y, *dy);
        }
    }
}

concrete! {
    /// y = max(a + b, 0)
    pub fn forward<E: Element>(a: &[E], b: &[E], y: &mut [E]) {
        a.par_chunks(ELEMENTS)
            .zip(b.par_chunks(ELEMENTS))
            .zip(y.par_chunks_mut(ELEMENTS))
            .for_each(|((a, b), y)| block_forward(a, b, y));
    }

    /// dy = 0 where y is not above 0
    pub fn backward<E: Element>(y: &[E], dy: &mut [E]) {
        y.par_chunks(ELEMENTS)
            .zip(dy.par_chunks_mut(ELEMENTS))
            .for_each(|(y, dy)| block_backward(y, dy));
    }
}
