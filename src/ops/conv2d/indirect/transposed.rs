//! The gradient with its channels innermost.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::CHUNK;
use crate::simd::{dispatch, Isa, Simd, SimdKernel};
use crate::workspace::Workspace;

/// dYt (batch * P, slots) of dY (batch, channels, P); rows are padded with zeros to whole chunks.
pub fn transposed(
    isa: Isa,
    dy: &[f32],
    channels: usize,
    p: usize,
    slots: Range<usize>,
    batch: usize,
) -> Workspace {
    let cols = slots.len().next_multiple_of(CHUNK);
    let mut copy = Workspace::take(batch * p * cols);
    copy.par_chunks_mut((p * cols).max(1))
        .enumerate()
        .for_each(|(image, to)| {
            let from = &dy[(image * channels + slots.start) * p..][..slots.len() * p];
            // SAFETY: callers detect the instruction set; the sizes are those of the slices.
            unsafe { dispatch(isa, Transpose { from, p, to, cols }) };
        });
    copy
}

/// `to` (p, cols) = the transpose of `from` (slots, p), zeros beyond.
struct Transpose<'a> {
    from: &'a [f32],
    p: usize,
    to: &'a mut [f32],
    cols: usize,
}

impl SimdKernel for Transpose<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { from, p, to, cols } = self;
        let slots = from.len() / p;
        let whole = p - p % S::LANES;
        for q in (0..whole).step_by(S::LANES) {
            for first in (0..cols).step_by(S::LANES) {
                let there = slots.saturating_sub(first);
                // SAFETY: slot first + i < slots has pixels q..q + LANES <= p; rows q + j < p of `to`
                // have cols >= first + LANES elements, both being whole vectors.
                unsafe {
                    let load = |i: usize| match i < there {
                        true => S::load(from.as_ptr().add((first + i) * p + q)),
                        false => S::zero(),
                    };
                    let to = to.as_mut_ptr().add(q * cols + first);
                    S::transpose(load, |j, v| S::store(to.add(j * cols), v));
                }
            }
        }
        for q in whole..p {
            let row = &mut to[q * cols..(q + 1) * cols];
            row[slots..].fill(0.0);
            for (slot, to) in row[..slots].iter_mut().enumerate() {
                *to = from[slot * p + q];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_has_its_channels_and_zeros() {
        for (channels, slots, p) in [(5, 1..4, 7), (40, 3..40, 49), (16, 0..16, 32)] {
            let dy: Vec<f32> = (0..2 * channels * p).map(|i| i as f32 + 1.0).collect();
            for isa in [Isa::Portable, Isa::detect()] {
                let found = transposed(isa, &dy, channels, p, slots.clone(), 2);
                let cols = found.len() / (2 * p);
                assert_eq!(cols % CHUNK, 0);
                for (i, &v) in found.iter().enumerate() {
                    let (pixel, slot) = (i / cols, i % cols);
                    let channel = pixel / p * channels + slots.start + slot;
                    let expected = match slot < slots.len() {
                        true => dy[channel * p + pixel % p],
                        false => 0.0,
                    };
                    assert_eq!(v, expected);
                }
            }
        }
    }
}
