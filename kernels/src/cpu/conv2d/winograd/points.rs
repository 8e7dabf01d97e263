//! Matrices in the transformed domain: one for each of a tile's 36 points.

use super::tiles::POINTS;
use crate::cpu::simd::matmul::MatMul;
use crate::cpu::simd::{dispatch, Isa};

/// Elements of a cache line.
const LINE: usize = 16;

/// The layout of 36 matrices, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points {
    /// Rows of each matrix.
    pub rows: usize,
    /// Columns of each matrix: whole vectors.
    pub cols: usize,
}

impl Points {
    /// From a point's matrix to the next's.
    ///
    /// A line more than the matrix has: sizes are mostly powers of two, and a transform, which
    /// touches one element at all 36 points, would otherwise find them all in one set of the cache.
    pub fn step(self) -> usize {
        self.rows * self.cols + LINE
    }

    /// Elements of all of them.
    pub fn len(self) -> usize {
        POINTS * self.step()
    }
}

/// A part of such matrices: rows and columns from `first` on, `row` and `col` apart.
#[derive(Clone, Copy)]
pub struct Part<P> {
    /// The first element at point 0.
    pub first: P,
    /// From a point to the next.
    pub step: usize,
    /// From a row to the next.
    pub row: usize,
    /// From a column to the next.
    pub col: usize,
}

impl Part<*const f32> {
    /// The matrices' rows from `row` on and columns from `col` on.
    pub fn of(data: &[f32], points: Points, row: usize, col: usize) -> Self {
        assert!(data.len() >= points.len() && row <= points.rows && col <= points.cols);
        Self {
            // SAFETY: inside the buffer, or one past its end (just checked).
            first: unsafe { data.as_ptr().add(row * points.cols + col) },
            step: points.step(),
            row: points.cols,
            col: 1,
        }
    }

    /// The same, rows for columns.
    pub fn transposed(self) -> Self {
        Self {
            row: self.col,
            col: self.row,
            ..self
        }
    }
}

impl Part<*mut f32> {
    /// The whole matrices, to be written.
    pub fn whole(data: &mut [f32], points: Points) -> Self {
        assert!(data.len() >= points.len());
        Self {
            first: data.as_mut_ptr(),
            step: points.step(),
            row: points.cols,
            col: 1,
        }
    }
}

/// C (rows x cols) = A (rows x depth) * B (depth x cols) at each point, or += it. B's and C's
/// columns are 1 apart, and `cols` is whole vectors.
///
/// # Safety
/// The parts have these sizes, nothing else uses C, and the machine has `isa`.
pub unsafe fn multiply(
    isa: Isa,
    [rows, cols, depth]: [usize; 3],
    a: Part<*const f32>,
    b: Part<*const f32>,
    c: Part<*mut f32>,
    accumulate: bool,
) {
    debug_assert!(b.col == 1 && c.col == 1);
    for point in 0..POINTS {
        // SAFETY: the caller's promise.
        unsafe {
            let product = MatMul {
                rows,
                cols,
                depth,
                a: a.first.add(point * a.step),
                a_row: a.row,
                a_col: a.col,
                b: b.first.add(point * b.step),
                b_row: b.row,
                c: c.first.add(point * c.step),
                c_row: c.row,
                accumulate,
            };
            dispatch(isa, product);
        }
    }
}
