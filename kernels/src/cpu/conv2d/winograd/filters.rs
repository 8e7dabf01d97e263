//! Filters to the transformed domain, and their gradient back.

use std::ops::Range;

use super::transform::{both_axes, Filter, FilterGradient};
use crate::args::KeptChannels;
use crate::cpu::simd::{Simd, SimdKernel};

/// "From" channels whose taps are laid out at a time.
const BLOCK: usize = 16;
/// Lanes of the widest instruction set.
const MAX_LANES: usize = 16;

/// The 3x3 filters of a weight (C_out, C_in, 3, 3), as a matrix from "in" to "out" channels.
#[derive(Clone, Copy, Debug)]
pub enum Filters<'a> {
    /// From the input's channels to the output's.
    Forward {
        /// The weight.
        w: &'a [f32],
        /// C_in.
        c_in: usize,
    },
    /// From the output gradient's channels (the kept ones) to the input's, taps turned round.
    Backward {
        /// The weight.
        w: &'a [f32],
        /// C_in.
        c_in: usize,
        /// The gradient's channels; `None` for all.
        kept: Option<&'a KeptChannels>,
    },
}

/// Transforms the filters to channels `to..to + count`, from all `from` channels.
pub struct TransformFilters<'a> {
    pub filters: Filters<'a>,
    /// Number of "from" channels.
    pub from: usize,
    /// First "to" channel, and how many.
    pub to: usize,
    pub count: usize,
    /// Where the first filter goes, at point 0; `count` is rounded up to whole vectors there.
    pub out: *mut f32,
    /// From a point to the next, and from a "from" channel to the next.
    pub out_point: usize,
    pub out_row: usize,
}

impl SimdKernel for TransformFilters<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // Taps of a vector's lanes side by side, for each of the "from" channels of a block.
        let mut taps = [0.0f32; BLOCK * 9 * MAX_LANES];
        for first in (0..self.count).step_by(S::LANES) {
            let lanes = (self.count - first).min(S::LANES);
            for block in (0..self.from).step_by(BLOCK) {
                let count = BLOCK.min(self.from - block);
                self.gather::<S>(self.to + first, lanes, block..block + count, &mut taps);
                for i in 0..count {
                    // SAFETY: `taps` holds nine vectors for each channel of the block; the
                    // caller's `out` has room for every row.
                    unsafe {
                        let taps = taps.as_ptr().add(i * 9 * S::LANES);
                        let out = self.out.add((block + i) * self.out_row + first);
                        both_axes::<S, Filter, 3, 6>(
                            |row, col| S::load(taps.add((row * 3 + col) * S::LANES)),
                            |row, col, v| S::store(out.add((row * 6 + col) * self.out_point), v),
                        );
                    }
                }
            }
        }
    }
}

impl TransformFilters<'_> {
    /// Lays the taps of the filters from `from` to `to..to + lanes` out by tap: (from, 9, LANES).
    /// Lanes beyond `lanes` are zero.
    #[inline(always)]
    fn gather<S: Simd>(&self, to: usize, lanes: usize, from: Range<usize>, taps: &mut [f32]) {
        assert!(taps.len() >= from.len() * 9 * S::LANES && lanes <= S::LANES);
        match self.filters {
            // A lane's filters from successive channels lie one after the other.
            Filters::Forward { w, c_in } => {
                let (len, step) = (from.len() * 9, c_in * 9);
                let start = to * step + from.start * 9;
                assert!(start + (lanes - 1) * step + len <= w.len());
                let whole = len - len % S::LANES;
                // SAFETY: `len` elements lie in each of the `lanes` rows from `start` on, `step`
                // apart, and `len` vectors in `taps` (just checked).
                unsafe {
                    let rows = w.as_ptr().add(start);
                    let taps = taps.as_mut_ptr();
                    for at in (0..whole).step_by(S::LANES) {
                        S::transpose(
                            |lane| {
                                if lane < lanes {
                                    S::load(rows.add(lane * step + at))
                                } else {
                                    S::zero()
                                }
                            },
                            |i, v| S::store(taps.add((at + i) * S::LANES), v),
                        );
                    }
                    for at in whole..len {
                        S::store(taps.add(at * S::LANES), S::zero());
                        for lane in 0..lanes {
                            *taps.add(at * S::LANES + lane) = *rows.add(lane * step + at);
                        }
                    }
                }
            }
            // Successive lanes' filters lie one after the other, their taps to be turned round.
            Filters::Backward { w, c_in, kept } => {
                for (i, from) in from.enumerate() {
                    let from = kept.map_or(from, |kept| kept[from]);
                    let filters = &w[(from * c_in + to) * 9..][..lanes * 9];
                    // A copy, so that whole vectors can be read from every lane's filter.
                    let mut padded = [0.0f32; MAX_LANES * 9 + MAX_LANES];
                    padded[..filters.len()].copy_from_slice(filters);
                    // SAFETY: a vector can be read from each of LANES filters of the copy; nine
                    // vectors are written from `i * 9` on (checked above).
                    unsafe {
                        let filters = padded.as_ptr();
                        let taps = taps.as_mut_ptr().add(i * 9 * S::LANES);
                        transpose_nine::<S>(
                            |lane, part| S::load(filters.add(lane * 9 + part)),
                            |tap, v| S::store(taps.add((8 - tap) * S::LANES), v),
                        );
                    }
                }
            }
        }
    }
}

/// Transposes LANES rows of nine: `load(lane, at)` gives the elements from `at` on of a row (more
/// than the row has where it ends), `store(column, v)` takes columns 0..9.
///
/// # Safety
/// The machine has `S`, and what `load` and `store` ask for.
#[inline(always)]
unsafe fn transpose_nine<S: Simd>(
    load: impl Fn(usize, usize) -> S::V,
    mut store: impl FnMut(usize, S::V),
) {
    // SAFETY: the caller's promise.
    unsafe {
        for part in (0..9).step_by(S::LANES) {
            S::transpose(
                |lane| load(lane, part),
                |column, v| {
                    if part + column < 9 {
                        store(part + column, v);
                    }
                },
            );
        }
    }
}

/// Adds a row of transformed filter gradients, summed over `parts`, to dW.
pub struct FilterGradients<'a> {
    /// The row's first column, at point 0 of the first part.
    pub transformed: *const f32,
    pub parts: usize,
    /// From a part to the next, and from a point to the next.
    pub part: usize,
    pub point: usize,
    /// The filters' gradient that the columns stand for.
    pub dw: &'a mut [f32],
}

impl SimdKernel for FilterGradients<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (block, dw) in self.dw.chunks_mut(9 * S::LANES).enumerate() {
            let mut taps = [0.0f32; 9 * MAX_LANES];
            // Each lane's nine taps, in rows of sixteen.
            let mut filters = [0.0f32; MAX_LANES * 16];
            // SAFETY: the caller's buffers have the sizes given, rows being whole vectors; a
            // row of sixteen has room for the two vectors of eight, or the one of sixteen, that
            // its nine taps are written as.
            unsafe {
                let from = self.transformed.add(block * S::LANES);
                let taps = taps.as_mut_ptr();
                both_axes::<S, FilterGradient, 6, 3>(
                    |row, col| {
                        let at = from.add((row * 6 + col) * self.point);
                        let mut sum = S::load(at);
                        for part in 1..self.parts {
                            sum = S::add(sum, S::load(at.add(part * self.part)));
                        }
                        sum
                    },
                    |row, col, v| S::store(taps.add((row * 3 + col) * S::LANES), v),
                );
                let filters = filters.as_mut_ptr();
                for part in (0..9).step_by(S::LANES) {
                    S::transpose(
                        |i| {
                            if part + i < 9 {
                                S::load(taps.add((part + i) * S::LANES))
                            } else {
                                S::zero()
                            }
                        },
                        |lane, v| S::store(filters.add(lane * 16 + part), v),
                    );
                }
            }
            for (dw, filter) in dw.chunks_exact_mut(9).zip(filters.chunks_exact(16)) {
                for (dw, &x) in dw.iter_mut().zip(filter) {
                    *dw += x;
                }
            }
        }
    }
}
