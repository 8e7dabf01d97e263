//! Filters to the transformed domain, and their gradient back.

use std::ops::Range;

use super::tiles::POINTS;
use super::transform::{both_axes, Filter, FilterGradient};
use crate::simd::{Simd, SimdKernel};

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
        kept: Option<&'a [usize]>,
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
        match self.filters {
            // A lane's filters from successive channels lie one after the other.
            Filters::Forward { w, c_in } => {
                let len = from.len() * 9;
                let row = |lane: usize| {
                    let start = ((to + lane) * c_in + from.start) * 9;
                    &w[start..start + len]
                };
                let whole = len - len % S::LANES;
                for at in (0..whole).step_by(S::LANES) {
                    // SAFETY: LANES elements from `at` on lie in each row, and LANES vectors from
                    // `at` on in `taps`.
                    unsafe {
                        S::transpose(
                            |lane| {
                                if lane < lanes {
                                    S::load(row(lane)[at..at + S::LANES].as_ptr())
                                } else {
                                    S::zero()
                                }
                            },
                            |i, v| {
                                let to = (at + i) * S::LANES;
                                S::store(taps[to..to + S::LANES].as_mut_ptr(), v);
                            },
                        );
                    }
                }
                for at in whole..len {
                    for lane in 0..S::LANES {
                        taps[at * S::LANES + lane] = if lane < lanes { row(lane)[at] } else { 0.0 };
                    }
                }
            }
            // Successive lanes' filters lie one after the other, their taps to be turned round.
            Filters::Backward { w, c_in, kept } => {
                for (i, from) in from.enumerate() {
                    let from = kept.map_or(from, |kept| kept[from]);
                    let start = (from * c_in + to) * 9;
                    let filters = &w[start..start + lanes * 9];
                    let taps = &mut taps[i * 9 * S::LANES..(i + 1) * 9 * S::LANES];
                    for (lane, filter) in filters.chunks_exact(9).enumerate() {
                        for (tap, &x) in filter.iter().enumerate() {
                            taps[(8 - tap) * S::LANES + lane] = x;
                        }
                    }
                    for tap in taps.chunks_exact_mut(S::LANES) {
                        tap[lanes..].fill(0.0);
                    }
                }
            }
        }
    }
}

/// Adds transformed filter gradients, summed over `parts`, to the rows of dW.
pub struct FilterGradients<'a> {
    /// `parts` buffers one after the other, each (POINTS, rows, row_len).
    pub transformed: *const f32,
    pub parts: usize,
    pub rows: usize,
    pub row_len: usize,
    /// Which of the rows to take.
    pub row: usize,
    /// The first filter of that row's gradient that the columns stand for, and how many.
    pub dw: &'a mut [f32],
}

impl SimdKernel for FilterGradients<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut taps = [0.0f32; 9 * MAX_LANES];
        let point = self.rows * self.row_len;
        for (block, dw) in self.dw.chunks_mut(9 * S::LANES).enumerate() {
            // SAFETY: the caller's buffers have the sizes given, `row_len` being whole vectors.
            unsafe {
                let from = self
                    .transformed
                    .add(self.row * self.row_len + block * S::LANES);
                both_axes::<S, FilterGradient, 6, 3>(
                    |row, col| {
                        let at = from.add((row * 6 + col) * point);
                        let mut sum = S::load(at);
                        for part in 1..self.parts {
                            sum = S::add(sum, S::load(at.add(part * POINTS * point)));
                        }
                        sum
                    },
                    |row, col, v| S::store(taps.as_mut_ptr().add((row * 3 + col) * S::LANES), v),
                );
            }
            for (lane, filter) in dw.chunks_mut(9).enumerate() {
                for (tap, dw) in filter.iter_mut().enumerate() {
                    *dw += taps[tap * S::LANES + lane];
                }
            }
        }
    }
}
