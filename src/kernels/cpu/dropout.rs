//! Dropout on the CPU: fixed blocks of elements.

use num_traits::{Float, FromPrimitive};
use rayon::prelude::*;

use crate::kernels::args::dropout::{DropoutMask, MaskBlock, BLOCK};
use crate::kernels::args::Fill;
use crate::kernels::cpu::element::Element;
use crate::kernels::cpu::simd::multiversion;

multiversion! {
    fn block_forward<E>(mask: MaskBlock, scale: E, x: &[E], y: &mut [E]) {
        for ((y, &x), i) in y.iter_mut().zip(x).zip(0u32..) {
            *y = if mask.keeps(i) { x * scale } else { E::zero() };
        }
    }
}

multiversion! {
    fn block_backward<E>(mask: MaskBlock, scale: E, dy: &[E], dx: &mut [E], fill: Fill) {
        for ((dx, &dy), i) in dx.iter_mut().zip(dy).zip(0u32..) {
            fill.write(dx, if mask.keeps(i) { dy * scale } else { E::zero() });
        }
    }
}

fn scale<E: Float + FromPrimitive>(mask: &DropoutMask) -> E {
    // An f32 holds any scale: the rate's distance from 1 is at least 2^-53.
    E::from_f64(mask.scale()).unwrap_or_else(E::infinity)
}

/// y = x / (1 - rate) where the mask keeps the element, 0 elsewhere
pub fn forward<E: Element>(mask: &DropoutMask, x: &[E], y: &mut [E]) {
    let scale = scale(mask);
    x.par_chunks(BLOCK)
        .zip(y.par_chunks_mut(BLOCK))
        .enumerate()
        .for_each(|(block, (x, y))| block_forward(mask.block(block), scale, x, y));
}

/// dx (+)= dy / (1 - rate) where the mask keeps the element
pub fn backward<E: Element>(mask: &DropoutMask, dy: &[E], dx: &mut [E], fill: Fill) {
    let scale = scale(mask);
    dy.par_chunks(BLOCK)
        .zip(dx.par_chunks_mut(BLOCK))
        .enumerate()
        .for_each(|(block, (dy, dx))| block_backward(mask.block(block), scale, dy, dx, fill));
}
