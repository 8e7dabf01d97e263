//! A matrix product on buffers that are already laid out for it.

use super::{Simd, SimdKernel};

/// C (rows x cols) = A (rows x depth) * B (depth x cols), or += it.
///
/// A's elements are broadcast, so any strides do; B and C have contiguous rows, whose `cols` is a
/// multiple of the instruction set's lanes.
#[derive(Clone, Copy)]
pub struct MatMul {
    pub rows: usize,
    pub cols: usize,
    pub depth: usize,
    pub a: *const f32,
    /// From A's row to the next.
    pub a_row: usize,
    /// From A's column to the next.
    pub a_col: usize,
    pub b: *const f32,
    /// From B's row to the next.
    pub b_row: usize,
    pub c: *mut f32,
    /// From C's row to the next.
    pub c_row: usize,
    /// Whether the product is added to what C holds.
    pub accumulate: bool,
}

impl SimdKernel for MatMul {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        debug_assert_eq!(self.cols % S::LANES, 0);
        // Part of the depth at a time: the longer a running sum, the larger its rounding errors; and
        // a part of A stays in cache while all columns use it.
        let parts = self.depth.div_ceil(MAX_PART).max(1);
        let step = self.depth.div_ceil(parts).max(1);
        // SAFETY: the caller's pointers are valid for the sizes and strides given; every offset
        // below stays inside them.
        unsafe {
            self.whole_columns::<S>(step);
            for done in (step..self.depth).step_by(step) {
                let rest = Self {
                    depth: self.depth - done,
                    a: self.a.add(done * self.a_col),
                    b: self.b.add(done * self.b_row),
                    accumulate: true,
                    ..self
                };
                rest.whole_columns::<S>(step);
            }
        }
    }
}

/// The depth is cut into equal parts of this much at most. (With running sums over all of 512 channels
/// or more, Winograd's error passes the bound that its tests hold it to.)
const MAX_PART: usize = 128;

impl MatMul {
    /// All columns, over the first `depth` of the depth (or all).
    #[inline(always)]
    unsafe fn whole_columns<S: Simd>(&self, depth: usize) {
        let part = Self {
            depth: depth.min(self.depth),
            ..*self
        };
        let mut col = 0;
        // SAFETY: as in `run`.
        unsafe {
            while col + 2 * S::LANES <= self.cols {
                part.columns::<S, 2>(col);
                col += 2 * S::LANES;
            }
            if col < self.cols {
                part.columns::<S, 1>(col);
            }
        }
    }

    /// All rows of `NV` vectors of columns from `col` on.
    #[inline(always)]
    unsafe fn columns<S: Simd, const NV: usize>(&self, col: usize) {
        let mut row = 0;
        // SAFETY: as in `run`.
        unsafe {
            if S::TILE_ROWS == 8 {
                while row + 8 <= self.rows {
                    self.tile::<S, 8, NV>(row, col);
                    row += 8;
                }
            }
            if S::TILE_ROWS == 6 {
                while row + 6 <= self.rows {
                    self.tile::<S, 6, NV>(row, col);
                    row += 6;
                }
            }
            while row + 4 <= self.rows {
                self.tile::<S, 4, NV>(row, col);
                row += 4;
            }
            match self.rows - row {
                3 => self.tile::<S, 3, NV>(row, col),
                2 => self.tile::<S, 2, NV>(row, col),
                1 => self.tile::<S, 1, NV>(row, col),
                _ => {}
            }
        }
    }

    /// `MR` rows x `NV` vectors, kept in registers over the whole depth.
    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(&self, row: usize, col: usize) {
        // SAFETY: as in `run`.
        unsafe {
            let mut sum = [[S::zero(); NV]; MR];
            let mut a = self.a.add(row * self.a_row);
            let mut b = self.b.add(col);
            for _ in 0..self.depth {
                let bv: [S::V; NV] = std::array::from_fn(|j| S::load(b.add(j * S::LANES)));
                for (i, sum) in sum.iter_mut().enumerate() {
                    let av = S::splat(*a.add(i * self.a_row));
                    for j in 0..NV {
                        sum[j] = S::fma(av, bv[j], sum[j]);
                    }
                }
                a = a.add(self.a_col);
                b = b.add(self.b_row);
            }
            for (i, sum) in sum.iter().enumerate() {
                let c = self.c.add((row + i) * self.c_row + col);
                for (j, &sum) in sum.iter().enumerate() {
                    let at = c.add(j * S::LANES);
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

#[cfg(test)]
mod tests {
    use super::super::{dispatch, Isa};
    use super::*;

    fn check(isa: Isa, rows: usize, vectors: usize, depth: usize) {
        let cols = vectors * isa.lanes();
        let a: Vec<f32> = (0..rows * depth)
            .map(|i| ((i * 7) % 11) as f32 - 5.0)
            .collect();
        let b: Vec<f32> = (0..depth * cols)
            .map(|i| ((i * 5) % 13) as f32 - 6.0)
            .collect();
        let mut c = vec![1.0f32; rows * cols];
        // Small whole numbers: the sums are exact in any order.
        let expected: Vec<f32> = (0..rows * cols)
            .map(|i| {
                1.0 + (0..depth)
                    .map(|p| a[p * rows + i / cols] * b[p * cols + i % cols])
                    .sum::<f32>()
            })
            .collect();
        // SAFETY: the buffers have the sizes given, and `isa` was detected.
        unsafe {
            dispatch(
                isa,
                MatMul {
                    rows,
                    cols,
                    depth,
                    a: a.as_ptr(),
                    a_row: 1,
                    a_col: rows,
                    b: b.as_ptr(),
                    b_row: cols,
                    c: c.as_mut_ptr(),
                    c_row: cols,
                    accumulate: true,
                },
            );
        }
        assert_eq!(c, expected, "{isa:?} {rows} x {depth} x {cols}");
    }

    #[test]
    fn equals_the_plain_product_for_every_remainder() {
        for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 19] {
            for vectors in 1..=5 {
                for depth in [0, 1, 7, 3 * MAX_PART + 1] {
                    for isa in Isa::available() {
                        check(isa, rows, vectors, depth);
                    }
                }
            }
        }
    }
}
