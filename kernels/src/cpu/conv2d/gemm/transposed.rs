//! A side of dW with its channels innermost.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::CHUNK;
use super::panels::Panels;
use super::windows::Windows;
use crate::cpu::simd::{dispatch, Isa, Simd, SimdKernel};

/// The pixels of planes as rows of panels, (batch * p, `own`): chunks of channels are padded with
/// zeros.
pub fn transposed(isa: Isa, windows: &Windows<'_>, own: Range<usize>, batch: usize) -> Panels {
    let p = windows.pixels();
    let mut panels = Panels::new(own.len().div_ceil(CHUNK), batch * p);
    panels.chunks_mut().enumerate().for_each(|(chunk, to)| {
        let first = own.start + chunk * CHUNK;
        let count = CHUNK.min(own.end - first);
        to.par_chunks_exact_mut((p * CHUNK).max(1))
            .take(batch)
            .enumerate()
            .for_each(|(image, to)| {
                let from = windows.planes(image, first..first + count);
                // SAFETY: callers detect the instruction set; the sizes are those of the slices.
                unsafe { dispatch(isa, Transpose { from, p, to }) };
            });
    });
    panels
}

/// `to` (p, CHUNK) = the transpose of `from` (count, p), zeros beyond.
struct Transpose<'a> {
    from: &'a [f32],
    p: usize,
    to: &'a mut [f32],
}

impl SimdKernel for Transpose<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { from, p, to } = self;
        let count = from.len() / p;
        let whole = p - p % S::LANES;
        for q in (0..whole).step_by(S::LANES) {
            for first in (0..CHUNK).step_by(S::LANES) {
                let there = count.saturating_sub(first);
                // SAFETY: channel first + i < count has pixels q..q + LANES <= p; rows q + j < p of
                // `to` have CHUNK >= first + LANES elements.
                unsafe {
                    let load = |i: usize| match i < there {
                        true => S::load(from.as_ptr().add((first + i) * p + q)),
                        false => S::zero(),
                    };
                    let to = to.as_mut_ptr().add(q * CHUNK + first);
                    S::transpose(load, |j, v| S::store(to.add(j * CHUNK), v));
                }
            }
        }
        for q in whole..p {
            let row = &mut to[q * CHUNK..(q + 1) * CHUNK];
            row[count..].fill(0.0);
            for (channel, to) in row[..count].iter_mut().enumerate() {
                *to = from[channel * p + q];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::conv2d::{Conv2DOp, Conv2DShape};

    #[test]
    fn every_pixel_has_its_channels_and_zeros() {
        for (channels, own, p) in [(5, 1..4, 7), (40, 3..40, 49), (16, 0..16, 32)] {
            let planes: Vec<f32> = (0..2 * channels * p).map(|i| i as f32 + 1.0).collect();
            let pointwise = Conv2DOp {
                kernel: 1,
                stride: 1,
                padding: 0,
                dilation: 1,
                groups: 1,
            };
            let shape = Conv2DShape::new(pointwise, [2, channels, 1, p], 1).unwrap();
            let windows = Windows::of_input(&shape, &planes);
            for isa in Isa::available() {
                let found = transposed(isa, &windows, own.clone(), 2);
                for pixel in 0..2 * p {
                    let row = found.rows_from(pixel);
                    for slot in 0..own.len().next_multiple_of(CHUNK) {
                        let channel = pixel / p * channels + own.start + slot;
                        let expected = match slot < own.len() {
                            true => planes[channel * p + pixel % p],
                            false => 0.0,
                        };
                        let at = row.first + slot / CHUNK * row.chunk + slot % CHUNK;
                        assert_eq!(row.data[at], expected);
                    }
                }
            }
        }
    }
}
