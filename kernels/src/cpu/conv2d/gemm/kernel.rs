//! Products with panels, and what they are told to write.

use super::blocks::CHUNK;
use super::packed::{tiles, Packed};
use super::panels::Right;
use crate::cpu::simd::{dispatch, prefetch_line, Isa, Simd, SimdKernel};

/// The left factor of a product: its elements are broadcast.
pub trait Left {
    /// How many rows and columns there are.
    fn size(&self) -> [usize; 2];

    /// `sum` += rows `row..row + MR` times B, whose rows' vectors lie [`CHUNK`] elements apart from
    /// each of `b` on.
    ///
    /// # Safety
    /// The machine has `S`; the rows exist, and B has a row for each column.
    unsafe fn multiply<S: Simd, const MR: usize, const NV: usize>(
        &self,
        row: usize,
        b: [*const f32; NV],
        sum: &mut [[S::V; NV]; MR],
    );
}

/// Columns `from..to` of a packed factor.
pub struct Columns<'a> {
    pub a: &'a Packed,
    pub from: usize,
    pub to: usize,
}

impl Left for Columns<'_> {
    fn size(&self) -> [usize; 2] {
        assert!(self.from <= self.to && self.to <= self.a.depth);
        [self.a.rows, self.to - self.from]
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, const MR: usize, const NV: usize>(
        &self,
        row: usize,
        b: [*const f32; NV],
        sum: &mut [[S::V; NV]; MR],
    ) {
        // SAFETY: a tile of MR rows begins at `row`, and holds its columns one after the other.
        unsafe {
            let mut a = self.a.data().as_ptr();
            a = a.add(row * self.a.depth + self.from * MR);
            for j in 0..self.to - self.from {
                let bv: [S::V; NV] = std::array::from_fn(|n| S::load(b[n].add(j * CHUNK)));
                for (i, sum) in sum.iter_mut().enumerate() {
                    let av = S::splat(*a.add(i));
                    for n in 0..NV {
                        sum[n] = S::fma(av, bv[n], sum[n]);
                    }
                }
                a = a.add(MR);
            }
        }
    }
}

/// Rows that lie in a tensor, or a copy: element (i, s * `len` + j) is
/// `data[rows[i] + segments[s] + j]`.
pub struct Rows<'a> {
    pub data: &'a [f32],
    /// (A table, though they are evenly spaced: each row then has a pointer of its own, where the
    /// compiler would otherwise add up addresses between the products.)
    pub rows: &'a [usize],
    /// From a row to the next, if the processor does not fetch the next by itself.
    pub far: Option<usize>,
    pub segments: &'a [usize],
    pub len: usize,
}

/// Elements of a cache line.
const LINE: usize = 16;

impl Left for Rows<'_> {
    fn size(&self) -> [usize; 2] {
        let last = |table: &[usize]| table.iter().max().copied().unwrap_or(0);
        assert!(last(self.rows) + last(self.segments) + self.len <= self.data.len());
        [self.rows.len(), self.segments.len() * self.len]
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, const MR: usize, const NV: usize>(
        &self,
        row: usize,
        mut b: [*const f32; NV],
        sum: &mut [[S::V; NV]; MR],
    ) {
        // SAFETY: `size` checked the offsets.
        unsafe {
            for &segment in self.segments {
                let a: [*const f32; MR] = std::array::from_fn(|i| {
                    let at = *self.rows.get_unchecked(row + i);
                    self.data.as_ptr().add(at + segment)
                });
                match self.far {
                    None => fma_rows::<S, MR, NV>(a, b, 0..self.len, sum),
                    Some(step) => {
                        for from in (0..self.len).step_by(LINE) {
                            // The next tile's rows.
                            for a in a {
                                prefetch_line(a.wrapping_add(MR * step + from));
                            }
                            let range = from..(from + LINE).min(self.len);
                            fma_rows::<S, MR, NV>(a, b, range, sum);
                        }
                    }
                }
                b = b.map(|b| b.add(self.len * CHUNK));
            }
        }
    }
}

/// `sum` += elements `range` of the rows `a` times the rows of `b`.
///
/// # Safety
/// The machine has `S`, and the elements exist.
#[inline(always)]
unsafe fn fma_rows<S: Simd, const MR: usize, const NV: usize>(
    a: [*const f32; MR],
    b: [*const f32; NV],
    range: std::ops::Range<usize>,
    sum: &mut [[S::V; NV]; MR],
) {
    for j in range {
        // SAFETY: the caller's promise.
        unsafe {
            let bv: [S::V; NV] = std::array::from_fn(|n| S::load(b[n].add(j * CHUNK)));
            for (i, sum) in sum.iter_mut().enumerate() {
                let av = S::splat(*a[i].add(j));
                for n in 0..NV {
                    sum[n] = S::fma(av, bv[n], sum[n]);
                }
            }
        }
    }
}

/// Where a product goes: lane l of chunk v of row i is `data[i * row + chunks[v] + l]`.
pub struct Output<'a> {
    pub data: &'a mut [f32],
    pub row: usize,
    pub chunks: &'a [usize],
    /// Whether the next product is added to what is there. After one it is.
    pub accumulate: bool,
}

impl Output<'_> {
    /// Writes, or adds, `left` times `right`.
    pub fn add_product(&mut self, isa: Isa, left: impl Left, right: Right<'_>) {
        let [rows, depth] = left.size();
        if rows > 0 && !self.chunks.is_empty() {
            right.check(self.chunks.len(), depth);
            let last = self.chunks.iter().max().copied().unwrap_or(0);
            assert!((rows - 1) * self.row + last + CHUNK <= self.data.len());
            let product = Product {
                left,
                right,
                rows,
                to: self,
            };
            // SAFETY: every offset was just checked; callers detect the instruction set.
            unsafe { dispatch(isa, product) };
        }
        self.accumulate = true;
    }
}

struct Product<'a, 'b, L> {
    left: L,
    right: Right<'a>,
    rows: usize,
    to: &'a mut Output<'b>,
}

impl<L: Left> SimdKernel for Product<'_, '_, L> {
    /// A tile of rows stays in L1 while the panels pass, from L2; so
    /// a row of C is written in long stretches, which matters where a page holds one or two rows.
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        for (row, m) in tiles(S::TILE_ROWS, self.rows) {
            // SAFETY: the caller's promise.
            unsafe {
                match m {
                    8 => self.row::<S, 8>(row),
                    6 => self.row::<S, 6>(row),
                    4 => self.row::<S, 4>(row),
                    3 => self.row::<S, 3>(row),
                    2 => self.row::<S, 2>(row),
                    _ => self.row::<S, 1>(row),
                }
            }
        }
    }
}

impl<L: Left> Product<'_, '_, L> {
    #[inline(always)]
    unsafe fn row<S: Simd, const MR: usize>(&mut self, row: usize) {
        let chunks = self.to.chunks;
        let right = self.right;
        let b = |v: usize| right.first + v * right.chunk;
        let mut v = 0;
        // SAFETY: as in `run`.
        unsafe {
            while v < chunks.len() {
                let left = &chunks[v..];
                if S::LANES < CHUNK {
                    // A chunk is several vectors.
                    for at in (0..CHUNK).step_by(2 * S::LANES) {
                        let pair = |first: usize| [first + at, first + at + S::LANES];
                        self.tile::<S, MR, 2>(row, pair(b(v)), pair(left[0]));
                    }
                    v += 1;
                } else if left.len() == 3 || left.len() > 4 {
                    // Three at a time need the fewest loads a product; four are two pairs.
                    let c = [left[0], left[1], left[2]];
                    self.tile::<S, MR, 3>(row, [b(v), b(v + 1), b(v + 2)], c);
                    v += 3;
                } else if left.len() >= 2 {
                    self.tile::<S, MR, 2>(row, [b(v), b(v + 1)], [left[0], left[1]]);
                    v += 2;
                } else {
                    self.tile::<S, MR, 1>(row, [b(v)], [left[0]]);
                    v += 1;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        row: usize,
        b: [usize; NV],
        c: [usize; NV],
    ) {
        // SAFETY: as in `run`.
        unsafe {
            // Read before anything is written: to the compiler a store could change them.
            let (step, accumulate) = (self.to.row, self.to.accumulate);
            let to = self.to.data.as_mut_ptr().add(row * step);
            let mut sum = [[S::zero(); NV]; MR];
            let b = b.map(|b| self.right.data.as_ptr().add(b));
            self.left.multiply::<S, MR, NV>(row, b, &mut sum);
            for (i, sum) in sum.iter().enumerate() {
                for n in 0..NV {
                    let to = to.add(i * step + c[n]);
                    let v = if accumulate {
                        S::add(S::load(to), sum[n])
                    } else {
                        sum[n]
                    };
                    S::store(to, v);
                }
            }
        }
    }
}
