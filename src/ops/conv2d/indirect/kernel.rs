//! Products whose factors are found through tables of offsets.

use super::packed::{tiles, Packed};
use crate::simd::{dispatch, Isa, Simd, SimdKernel};

/// Elements of a column block: the lanes of the widest instruction set.
pub const CHUNK: usize = 16;

/// Depth that is multiplied at a time, so that a tile of A and the columns of B that it meets stay
/// in the core's first cache.
const PART: usize = 192;

/// C (rows x cols) = A (rows x depth) * B (depth x cols), or += it.
///
/// Columns come in chunks of [`CHUNK`]: lane l of chunk v of B's row j is `b[b_rows[j] +
/// b_chunks[v] + l]`, and that of C's row i is `c[i * c_row + c_chunks[v] + l]`.
pub struct Gathered<'a> {
    pub a: &'a Packed,
    pub b: &'a [f32],
    pub b_rows: &'a [usize],
    pub b_chunks: &'a [usize],
    pub c: &'a mut [f32],
    pub c_row: usize,
    pub c_chunks: &'a [usize],
    pub accumulate: bool,
}

impl Gathered<'_> {
    /// Computes the product.
    pub fn multiply(self) {
        let last = |table: &[usize]| table.iter().max().copied().unwrap_or(0);
        assert!(self.b_rows.len() == self.a.depth && self.b_chunks.len() == self.c_chunks.len());
        if self.a.rows == 0 || self.b_chunks.is_empty() {
            return;
        }
        // A product without terms reads nothing, and is zero.
        let end = last(self.b_rows) + last(self.b_chunks) + CHUNK;
        assert!(self.b_rows.is_empty() || end <= self.b.len());
        assert!((self.a.rows - 1) * self.c_row + last(self.c_chunks) + CHUNK <= self.c.len());
        let isa = self.a.isa();
        // SAFETY: every offset was just checked, A holds rows * depth elements by its making, and
        // its instruction set was detected.
        unsafe { dispatch(isa, self) }
    }
}

impl SimdKernel for Gathered<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let depth = self.a.depth;
        let mut from = 0;
        loop {
            let to = (from + PART).min(depth);
            // SAFETY: the caller's promise.
            unsafe { self.part::<S>(from..to) };
            from = to;
            self.accumulate = true;
            if from >= depth {
                return;
            }
        }
    }
}

impl Gathered<'_> {
    #[inline(always)]
    unsafe fn part<S: Simd>(&mut self, depth: std::ops::Range<usize>) {
        let chunks = self.b_chunks.len();
        // SAFETY: as in `run`; within a chunk, and from one to the next, offsets come from the
        // tables.
        unsafe {
            if S::LANES == CHUNK {
                // Three at a time need the fewest loads a product; four are two pairs.
                let mut v = 0;
                while chunks - v == 3 || chunks - v > 4 {
                    let (b, c) = (&self.b_chunks[v..], &self.c_chunks[v..]);
                    let (b, c) = ([b[0], b[1], b[2]], [c[0], c[1], c[2]]);
                    self.rows::<S, 3>(depth.clone(), b, c);
                    v += 3;
                }
                while chunks - v >= 2 {
                    let (b, c) = (&self.b_chunks[v..], &self.c_chunks[v..]);
                    let (b, c) = ([b[0], b[1]], [c[0], c[1]]);
                    self.rows::<S, 2>(depth.clone(), b, c);
                    v += 2;
                }
                if v < chunks {
                    self.rows::<S, 1>(depth, [self.b_chunks[v]], [self.c_chunks[v]]);
                }
            } else {
                for v in 0..chunks {
                    for at in (0..CHUNK).step_by(2 * S::LANES) {
                        let (b, c) = (self.b_chunks[v] + at, self.c_chunks[v] + at);
                        let second = |first| [first, first + S::LANES];
                        self.rows::<S, 2>(depth.clone(), second(b), second(c));
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, const NV: usize>(
        &mut self,
        depth: std::ops::Range<usize>,
        b: [usize; NV],
        c: [usize; NV],
    ) {
        for (row, m) in tiles(S::TILE_ROWS, self.a.rows) {
            // SAFETY: as in `run`.
            unsafe {
                match m {
                    8 => self.tile::<S, 8, NV>(row, depth.clone(), b, c),
                    6 => self.tile::<S, 6, NV>(row, depth.clone(), b, c),
                    4 => self.tile::<S, 4, NV>(row, depth.clone(), b, c),
                    3 => self.tile::<S, 3, NV>(row, depth.clone(), b, c),
                    2 => self.tile::<S, 2, NV>(row, depth.clone(), b, c),
                    _ => self.tile::<S, 1, NV>(row, depth.clone(), b, c),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        row: usize,
        depth: std::ops::Range<usize>,
        b: [usize; NV],
        c: [usize; NV],
    ) {
        // SAFETY: as in `run`.
        unsafe {
            let mut sum = [[S::zero(); NV]; MR];
            let mut a = self.a.data().as_ptr();
            a = a.add(row * self.a.depth + depth.start * MR);
            let base: [*const f32; NV] = std::array::from_fn(|n| self.b.as_ptr().add(b[n]));
            for &at in self.b_rows.get_unchecked(depth) {
                let bv: [S::V; NV] = std::array::from_fn(|n| S::load(base[n].add(at)));
                for (i, sum) in sum.iter_mut().enumerate() {
                    let av = S::splat(*a.add(i));
                    for n in 0..NV {
                        sum[n] = S::fma(av, bv[n], sum[n]);
                    }
                }
                a = a.add(MR);
            }
            for (i, sum) in sum.iter().enumerate() {
                let to = self.c.as_mut_ptr().add((row + i) * self.c_row);
                for n in 0..NV {
                    let at = to.add(c[n]);
                    let v = if self.accumulate {
                        S::add(S::load(at), sum[n])
                    } else {
                        sum[n]
                    };
                    S::store(at, v);
                }
            }
        }
    }
}

/// C (rows x cols) = A (rows x depth) * B (depth x cols), or += it, where the depth runs over
/// segments of `len` each: A's element (i, j) of segment s is `a[a_rows[i] + a_segments[s] + j]`,
/// B's row is s * len + j. B's and C's rows lie `cols` apart, a multiple of [`CHUNK`].
pub struct Segmented<'a> {
    pub isa: Isa,
    pub a: &'a [f32],
    pub a_rows: &'a [usize],
    pub a_segments: &'a [usize],
    pub len: usize,
    pub b: &'a [f32],
    pub c: &'a mut [f32],
    pub cols: usize,
    pub accumulate: bool,
}

impl Segmented<'_> {
    /// Computes the product.
    pub fn multiply(self) {
        let last = |table: &[usize]| table.iter().max().copied().unwrap_or(0);
        assert!(self.cols.is_multiple_of(CHUNK));
        assert!(last(self.a_rows) + last(self.a_segments) + self.len <= self.a.len());
        assert!(self.a_segments.len() * self.len * self.cols <= self.b.len());
        assert!(self.a_rows.len() * self.cols <= self.c.len());
        let isa = self.isa;
        // SAFETY: every offset was just checked; callers detect the instruction set.
        unsafe { dispatch(isa, self) }
    }
}

impl SimdKernel for Segmented<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let mut col = 0;
        // SAFETY: the caller's promise.
        unsafe {
            if S::LANES == CHUNK {
                let cols = self.cols;
                let left = |col: usize| (cols - col) / CHUNK;
                while left(col) == 3 || left(col) > 4 {
                    self.rows::<S, 3>(col);
                    col += 3 * S::LANES;
                }
            }
            while col + 2 * S::LANES <= self.cols {
                self.rows::<S, 2>(col);
                col += 2 * S::LANES;
            }
            if col < self.cols {
                self.rows::<S, 1>(col);
            }
        }
    }
}

impl Segmented<'_> {
    #[inline(always)]
    unsafe fn rows<S: Simd, const NV: usize>(&mut self, col: usize) {
        for (row, m) in tiles(S::TILE_ROWS, self.a_rows.len()) {
            // SAFETY: as in `run`.
            unsafe {
                match m {
                    8 => self.tile::<S, 8, NV>(row, col),
                    6 => self.tile::<S, 6, NV>(row, col),
                    4 => self.tile::<S, 4, NV>(row, col),
                    3 => self.tile::<S, 3, NV>(row, col),
                    2 => self.tile::<S, 2, NV>(row, col),
                    _ => self.tile::<S, 1, NV>(row, col),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(&mut self, row: usize, col: usize) {
        // SAFETY: as in `run`.
        unsafe {
            let mut sum = [[S::zero(); NV]; MR];
            let mut b = self.b.as_ptr().add(col);
            for &segment in self.a_segments {
                let a: [*const f32; MR] = std::array::from_fn(|i| {
                    let at = *self.a_rows.get_unchecked(row + i);
                    self.a.as_ptr().add(at + segment)
                });
                for j in 0..self.len {
                    let bv: [S::V; NV] = std::array::from_fn(|n| S::load(b.add(n * S::LANES)));
                    for (i, sum) in sum.iter_mut().enumerate() {
                        let av = S::splat(*a[i].add(j));
                        for n in 0..NV {
                            sum[n] = S::fma(av, bv[n], sum[n]);
                        }
                    }
                    b = b.add(self.cols);
                }
            }
            for (i, sum) in sum.iter().enumerate() {
                let to = self.c.as_mut_ptr().add((row + i) * self.cols + col);
                for (n, &sum) in sum.iter().enumerate() {
                    let at = to.add(n * S::LANES);
                    let v = if self.accumulate {
                        S::add(S::load(at), sum)
                    } else {
                        sum
                    };
                    S::store(at, v);
                }
            }
        }
    }
}
