//! Dropout on the CPU: fixed blocks of elements.

use dfdx::shapes::Shape;
use dfdx::tensor::{Cpu, Tensor};
use num_traits::{Float, FromPrimitive};
use rayon::prelude::*;

use super::mask::MaskBlock;
use super::{DropoutKernel, DropoutMask};
use crate::bridge::storage::{as_mut_slice, as_slice};
use crate::element::Element;
use crate::error::Result;
use crate::ops::blocks::ELEMENTS;
use crate::ops::Fill;
use crate::simd::multiversion;

multiversion! {
    fn forward<E>(mask: MaskBlock, scale: E, x: &[E], y: &mut [E]) {
        for ((y, &x), i) in y.iter_mut().zip(x).zip(0u32..) {
            *y = if mask.keeps(i) { x * scale } else { E::zero() };
        }
    }
}

multiversion! {
    fn backward<E>(mask: MaskBlock, scale: E, dy: &[E], dx: &mut [E], fill: Fill) {
        for ((dx, &dy), i) in dx.iter_mut().zip(dy).zip(0u32..) {
            fill.write(dx, if mask.keeps(i) { dy * scale } else { E::zero() });
        }
    }
}

fn scale<E: Float + FromPrimitive>(mask: &DropoutMask) -> E {
    // An f32 holds any scale: the rate's distance from 1 is at least 2^-53.
    E::from_f64(mask.scale()).unwrap_or_else(E::infinity)
}

impl<E: Element> DropoutKernel<E> for Cpu {
    fn dropout_forward<S: Shape>(
        mask: &DropoutMask,
        x: &Tensor<S, E, Self>,
        y: &mut Tensor<S, E, Self>,
    ) -> Result<()> {
        let scale = scale(mask);
        as_slice("dropout", x)?
            .par_chunks(ELEMENTS)
            .zip(as_mut_slice("dropout", y)?.par_chunks_mut(ELEMENTS))
            .enumerate()
            .for_each(|(block, (x, y))| forward(mask.block(block), scale, x, y));
        Ok(())
    }

    fn dropout_backward(mask: &DropoutMask, dy: &Self::Vec, dx: &mut Self::Vec, fill: Fill) {
        let scale = scale(mask);
        dy.par_chunks(ELEMENTS)
            .zip(dx.par_chunks_mut(ELEMENTS))
            .enumerate()
            .for_each(|(block, (dy, dx))| backward(mask.block(block), scale, dy, dx, fill));
    }
}
