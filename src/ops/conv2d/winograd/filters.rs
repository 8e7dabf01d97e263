//! Filters to the transformed domain, and their gradient back.

use super::tiles::POINTS;
use super::transform::{both_axes, Filter, FilterGradient};
use crate::simd::{Simd, SimdKernel};

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

impl Filters<'_> {
    /// Where the filter from channel `from` to channel `to` begins.
    #[inline(always)]
    fn start(&self, from: usize, to: usize) -> usize {
        match *self {
            Self::Forward { c_in, .. } => (to * c_in + from) * 9,
            Self::Backward { c_in, kept, .. } => {
                (kept.map_or(from, |kept| kept[from]) * c_in + to) * 9
            }
        }
    }
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
        let (w, turned) = match self.filters {
            Filters::Forward { w, .. } => (w, false),
            Filters::Backward { w, .. } => (w, true),
        };
        let mut taps = [0.0f32; 9 * 16];
        for first in (0..self.count).step_by(S::LANES) {
            let lanes = (self.count - first).min(S::LANES);
            for from in 0..self.from {
                for lane in 0..lanes {
                    let start = self.filters.start(from, self.to + first + lane);
                    let filter: &[f32; 9] = w[start..start + 9].try_into().expect("nine taps");
                    for (tap, &x) in filter.iter().enumerate() {
                        let tap = if turned { 8 - tap } else { tap };
                        taps[tap * S::LANES + lane] = x;
                    }
                }
                // SAFETY: `taps` has room for nine vectors, whose unused lanes are zero or old
                // filters that nobody reads; the caller's `out` has room for every row.
                unsafe {
                    let out = self.out.add(from * self.out_row + first);
                    both_axes::<S, Filter, 3, 6>(
                        |row, col| S::load(taps.as_ptr().add((row * 3 + col) * S::LANES)),
                        |row, col, v| S::store(out.add((row * 6 + col) * self.out_point), v),
                    );
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
        let mut taps = [0.0f32; 9 * 16];
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
