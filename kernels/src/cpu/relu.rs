//! ReLU on the CPU: fixed blocks of elements.

use rayon::prelude::*;

use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::blocks::ELEMENTS;
use crate::cpu::element::Element;
use crate::cpu::simd::{multiversion, relu, relu_grad};

multiversion! {
    fn block_forward<E>(x: &[E], y: &mut [E]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = relu(x);
        }
    }
}

multiversion! {
    fn block_backward<E>(y: &[E], dy: &[E], dx: &mut [E], fill: Fill) {
        for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            fill.write(dx, relu_grad(y, dy));
        }
    }
}

concrete! {
    /// y = max(x, 0)
    pub fn forward<E: Element>(x: &[E], y: &mut [E]) {
        x.par_chunks(ELEMENTS)
            .zip(y.par_chunks_mut(ELEMENTS))
            .for_each(|(x, y)| block_forward(x, y));
    }

    /// dx (+)= dy where y > 0
    pub fn backward<E: Element>(y: &[E], dy: &[E], dx: &mut [E], fill: Fill) {
        y.par_chunks(ELEMENTS)
            .zip(dy.par_chunks(ELEMENTS))
            .zip(dx.par_chunks_mut(ELEMENTS))
            .for_each(|((y, dy), dx)| block_backward(y, dy, dx, fill));
    }
}
