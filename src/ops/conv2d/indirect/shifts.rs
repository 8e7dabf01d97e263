//! Copies of planes in which every tap of a kernel reads contiguous rows.
//!
//! Tap k of an axis reads input position o * stride + q at output position o, where q = k *
//! dilation - padding = shift * stride + phase. Along the width each tap gets a copy of its own;
//! along the height, where moving by a row keeps rows contiguous, one copy serves every tap of a
//! phase. So a 3x3 kernel of stride 2 reads 6 copies of a quarter of the image, where unfolding
//! makes 9; and of the gradient, which has no phases, 2.

use std::ops::Range;

use num_traits::Float;

use crate::ops::conv2d::geometry::Conv2DOp;
use crate::simd::multiversion;

/// Where the taps of one axis read.
pub struct Taps {
    /// Phase of each tap, below the stride.
    pub phase: Vec<usize>,
    /// Shift of each tap.
    pub shift: Vec<isize>,
    pub min: isize,
    pub max: isize,
}

impl Taps {
    pub fn new(op: &Conv2DOp) -> Self {
        let at = |k| (k * op.dilation) as isize - op.padding as isize;
        let stride = op.stride as isize;
        let shift: Vec<isize> = (0..op.kernel).map(|k| at(k).div_euclid(stride)).collect();
        Self {
            phase: (0..op.kernel)
                .map(|k| at(k).rem_euclid(stride) as usize)
                .collect(),
            min: shift.iter().min().copied().unwrap_or(0),
            max: shift.iter().max().copied().unwrap_or(0),
            shift,
        }
    }

    /// Rows beyond those of the output that a copy holds.
    pub fn extra(&self) -> usize {
        (self.max - self.min) as usize
    }

    /// The phases that a tap has, ascending.
    pub fn phases(&self) -> Vec<usize> {
        let mut phases = self.phase.clone();
        phases.sort_unstable();
        phases.dedup();
        phases
    }

    /// The shifts that a tap has, ascending.
    pub fn shifts(&self) -> Vec<isize> {
        let mut shifts = self.shift.clone();
        shifts.sort_unstable();
        shifts.dedup();
        shifts
    }
}

/// A copy's row: `to[i]` = `from[i * stride + start]`, zero where that lies outside.
#[inline(always)]
fn copy_row<E: Float>(from: &[E], start: isize, stride: usize, to: &mut [E]) {
    // The first and the one after the last that lie inside.
    let before = (-start).max(0) as usize;
    let lo = before.div_ceil(stride).min(to.len());
    let inside = from.len() as isize - start;
    let hi = (inside.max(0) as usize)
        .div_ceil(stride)
        .clamp(lo, to.len());
    to[..lo].fill(E::zero());
    to[hi..].fill(E::zero());
    if lo == hi {
        return;
    }
    let first = (lo * stride) as isize + start;
    let (to, from) = (&mut to[lo..hi], &from[first as usize..]);
    match stride {
        1 => {
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        }
        // The commonest stride, known to the compiler.
        2 => {
            let (pairs, last) = from.as_chunks::<2>();
            for (to, from) in to.iter_mut().zip(pairs) {
                *to = from[0];
            }
            if let (Some(to), [last]) = (to.get_mut(pairs.len()), last) {
                *to = *last;
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(stride)) {
                *to = *from;
            }
        }
    }
}

multiversion! {
    /// Copies `plane` (`size`) to `to` (rows, `width`): row i is the plane's row `rows.start` + i *
    /// `step`, elements `start`, `start` + `stride`, ... of it; zeros outside.
    pub fn copy_plane<E>(
        plane: &[E],
        size: [usize; 2],
        rows: Range<isize>,
        step: usize,
        columns: [isize; 2],
        width: usize,
        to: &mut [E],
    ) {
        let ([h, w], [start, stride]) = (size, columns);
        for (to, y) in to.chunks_exact_mut(width).zip(rows.step_by(step)) {
            if y < 0 || y >= h as isize {
                to.fill(E::zero());
            } else {
                copy_row(&plane[y as usize * w..][..w], start, stride as usize, to);
            }
        }
    }
}

/// A distance between channels' copies that is not a multiple of 128 elements, for then the
/// channels would share a few sets of the cache.
pub fn spread(len: usize) -> usize {
    if len.is_multiple_of(128) {
        len + 16
    } else {
        len
    }
}
