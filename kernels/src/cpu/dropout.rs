//! Dropout on the CPU: fixed blocks of elements.

use num_traits::{Float, FromPrimitive};
use rayon::prelude::*;

use crate::args::dropout::{DropoutMask, MaskBlock, BLOCK};
use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::element::Element;
use crate::cpu::simd::multiversion;

multiversion! {
    fn block_forward<E>(mask: MaskBlock, from: u32, scale: E, x: &[E], y: &mut [E]) {
        for ((y, &x), i) in y.iter_mut().zip(x).zip(from..) {
            *y = if mask.keeps(i) { x * scale } else { E::zero() };
        }
    }
}

multiversion! {
    fn block_backward<E>(mask: MaskBlock, from: u32, scale: E, dy: &[E], dx: &mut [E], fill: Fill) {
        for ((dx, &dy), i) in dx.iter_mut().zip(dy).zip(from..) {
            fill.write(dx, if mask.keeps(i) { dy * scale } else { E::zero() });
        }
    }
}

fn scale<E: Float + FromPrimitive>(mask: &DropoutMask) -> E {
    // An f32 holds any scale: the rate's distance from 1 is at least 2^-53.
    E::from_f64(mask.scale()).unwrap_or_else(E::infinity)
}

/// Calls `f` for the elements of each block of the mask, with the number of the first one in it. (The mask
/// of a part of a batch may begin within a block.)
fn each_block<E: Element>(
    mask: &DropoutMask,
    from: &[E],
    to: &mut [E],
    f: impl Fn(MaskBlock, u32, &[E], &mut [E]) + Sync,
) {
    let (first, begun) = (mask.start() / BLOCK, mask.start() % BLOCK);
    let head = if begun == 0 {
        0
    } else {
        (BLOCK - begun).min(from.len())
    };
    let ((from_head, from), (to_head, to)) = (from.split_at(head), to.split_at_mut(head));
    if head > 0 {
        f(mask.block(first), begun as u32, from_head, to_head);
    }
    let first = first + usize::from(head > 0);
    from.par_chunks(BLOCK)
        .zip(to.par_chunks_mut(BLOCK))
        .enumerate()
        .for_each(|(block, (from, to))| f(mask.block(first + block), 0, from, to));
}

concrete! {
    /// y = x / (1 - rate) where the mask keeps the element, 0 elsewhere
    pub fn forward<E: Element>(mask: &DropoutMask, x: &[E], y: &mut [E]) {
        let scale = scale(mask);
        each_block(mask, x, y, |mask, from, x, y| {
            block_forward(mask, from, scale, x, y)
        });
    }

    /// dx (+)= dy / (1 - rate) where the mask keeps the element
    pub fn backward<E: Element>(mask: &DropoutMask, dy: &[E], dx: &mut [E], fill: Fill) {
        let scale = scale(mask);
        each_block(mask, dy, dx, |mask, from, dy, dx| {
            block_backward(mask, from, scale, dy, dx, fill)
        });
    }
}
