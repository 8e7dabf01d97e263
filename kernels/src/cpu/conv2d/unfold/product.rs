//! Matrix products on slices, bounds checked once a product.

use crate::cpu::element::Element;
use crate::cpu::simd::matmul::MatMul;
use crate::cpu::simd::{dispatch, multiversion, Isa};

/// Rows that products write are padded to a multiple of this many elements: the lanes of the
/// widest instruction set.
pub const PAD: usize = 16;

/// The left factor: element (i, j) lies at `i * row + j * col`.
#[derive(Clone, Copy)]
pub struct Left<'a, E> {
    pub data: &'a [E],
    pub row: usize,
    pub col: usize,
}

/// The right factor, whose rows are contiguous and `row` apart.
#[derive(Clone, Copy)]
pub struct Right<'a, E> {
    pub data: &'a [E],
    pub row: usize,
}

/// Elements whose products are computed.
pub trait Product: Element {
    /// C (rows x cols) = A (rows x depth) * B (depth x cols), or += it; C's rows are `c_row` apart.
    ///
    /// # Safety
    /// The slices hold what the sizes and strides say, and `cols` is a multiple of [`PAD`].
    unsafe fn multiply(
        sizes: [usize; 3],
        a: Left<'_, Self>,
        b: Right<'_, Self>,
        c: &mut [Self],
        c_row: usize,
        accumulate: bool,
    );
}

/// [`Product::multiply`], with the slices checked. Sizes are rows, cols, depth.
pub fn product<E: Product>(
    [rows, cols, depth]: [usize; 3],
    a: Left<'_, E>,
    b: Right<'_, E>,
    c: &mut [E],
    c_row: usize,
    accumulate: bool,
) {
    if rows == 0 || cols == 0 || depth == 0 {
        assert!(
            accumulate || rows == 0 || cols == 0,
            "a product without terms"
        );
        return;
    }
    assert!(cols.is_multiple_of(PAD) && cols <= b.row && cols <= c_row);
    assert!((rows - 1) * a.row + (depth - 1) * a.col < a.data.len());
    assert!((depth - 1) * b.row + cols <= b.data.len());
    assert!((rows - 1) * c_row + cols <= c.len());
    // SAFETY: just checked.
    unsafe { E::multiply([rows, cols, depth], a, b, c, c_row, accumulate) }
}

impl Product for f32 {
    unsafe fn multiply(
        [rows, cols, depth]: [usize; 3],
        a: Left<'_, f32>,
        b: Right<'_, f32>,
        c: &mut [f32],
        c_row: usize,
        accumulate: bool,
    ) {
        let product = MatMul {
            rows,
            cols,
            depth,
            a: a.data.as_ptr(),
            a_row: a.row,
            a_col: a.col,
            b: b.data.as_ptr(),
            b_row: b.row,
            c: c.as_mut_ptr(),
            c_row,
            accumulate,
        };
        // SAFETY: the caller's promise; the instruction set was detected, and PAD is a multiple of
        // the lanes of each.
        unsafe { dispatch(Isa::detect(), product) }
    }
}

/// Rows of C that a pass over B computes.
const ROWS: usize = 4;

multiversion! {
    /// Some rows of a product, by tiles of 4 x 16 sums: for `f64`, which nothing but tests and
    /// gradient checks computes with.
    fn tiles<E>(
        sizes: [usize; 3],
        a: Left<'_, E>,
        b: Right<'_, E>,
        c: &mut [E],
        c_row: usize,
        accumulate: bool,
    ) {
        let [rows, cols, depth] = sizes;
        for first in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - first);
            for col in (0..cols).step_by(PAD) {
                let mut sums = [[E::zero(); PAD]; ROWS];
                for k in 0..depth {
                    let b = &b.data[k * b.row + col..][..PAD];
                    for (r, sums) in sums.iter_mut().enumerate().take(count) {
                        let factor = a.data[(first + r) * a.row + k * a.col];
                        for (sum, &b) in sums.iter_mut().zip(b) {
                            *sum += factor * b;
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate().take(count) {
                    let c = &mut c[(first + r) * c_row + col..][..PAD];
                    for (c, &sum) in c.iter_mut().zip(sums) {
                        *c = if accumulate { *c + sum } else { sum };
                    }
                }
            }
        }
    }
}

impl Product for f64 {
    unsafe fn multiply(
        sizes: [usize; 3],
        a: Left<'_, f64>,
        b: Right<'_, f64>,
        c: &mut [f64],
        c_row: usize,
        accumulate: bool,
    ) {
        tiles(sizes, a, b, c, c_row, accumulate);
    }
}
