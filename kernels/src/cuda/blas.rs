//! Matrix products by cuBLAS.

use cudarc::cublas::result::{sgemm, sgemm_strided_batched};
use cudarc::cublas::sys::cublasOperation_t;

use super::context::{context, failed};
use super::memory::{Slice, SliceMut};
use crate::error::{Error, Result};

/// One factor of a product: a matrix whose rows follow each other in memory.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements of all matrices of a batch.
    pub data: Slice<'a, f32>,
    /// From a row to the next.
    pub row: usize,
    /// From a matrix of a batch to the next.
    pub step: usize,
    /// Whether its transpose is meant.
    pub transposed: bool,
}

/// The sizes of a batch of products (m, k) x (k, n) -> (m, n), and where they go.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Rows of the results.
    pub m: usize,
    /// Their columns.
    pub n: usize,
    /// Terms of a sum.
    pub k: usize,
    /// From a row of a result to the next.
    pub row: usize,
    /// From a result to the next.
    pub step: usize,
    /// How many products there are.
    pub count: usize,
    /// Whether they are added to what is there.
    pub add: bool,
    /// Whether the factors may be rounded to TF32.
    pub tf32: bool,
}

/// `to` = a b, or `to` += a b.
///
/// # Errors
/// [`Error::Device`] if cuBLAS fails; [`Error::Shape`] for memory that is too small;
/// [`Error::Parameter`] for a size of 2^31 or more.
pub fn multiply(p: Product, a: Matrix<'_>, b: Matrix<'_>, to: &SliceMut<'_, f32>) -> Result<()> {
    if p.m == 0 || p.n == 0 || p.count == 0 {
        return Ok(());
    }
    let last = |step: usize, rows: usize, row: usize, columns: usize| match rows {
        0 => 0,
        _ => (p.count - 1) * step + (rows - 1) * row + columns,
    };
    let stored = |m: &Matrix<'_>, rows, columns| match m.transposed {
        false => last(m.step, rows, m.row, columns),
        true => last(m.step, columns, m.row, rows),
    };
    for (what, needed, found) in [
        ("left factor", stored(&a, p.m, p.k), a.data.len()),
        ("right factor", stored(&b, p.k, p.n), b.data.len()),
        ("product", last(p.step, p.m, p.row, p.n), to.len()),
    ] {
        if needed > found {
            return Err(Error::Shape {
                op: "matrix product",
                what,
                expected: format!("at least {needed} elements"),
                found: format!("{found}"),
            });
        }
    }
    let int = |size: usize| {
        i32::try_from(size)
            .map_err(|_| Error::parameter("size of a matrix product", size, "less than 2^31"))
    };
    let operation = |m: &Matrix<'_>| match m.transposed {
        false => cublasOperation_t::CUBLAS_OP_N,
        true => cublasOperation_t::CUBLAS_OP_T,
    };
    let context = context(to.device())?;
    let handle = context.blas(p.tf32)?;
    let (m, n, k) = (int(p.m)?, int(p.n)?, int(p.k)?);
    let (a_row, b_row, row) = (int(a.row.max(1))?, int(b.row.max(1))?, int(p.row)?);
    let (one, beta) = (1f32, if p.add { 1f32 } else { 0f32 });
    let (left, right) = (a.data.address as *const f32, b.data.address as *const f32);
    let result = to.shared().address as *mut f32;
    // Rows are columns to cuBLAS: C = A B is computed as CT = BT AT.
    // SAFETY: the sizes have been checked against the memory, which its owners keep, and whose frees are
    // ordered behind this product.
    let multiplied = unsafe {
        match p.count {
            1 => sgemm(
                handle,
                operation(&b),
                operation(&a),
                n,
                m,
                k,
                &one,
                right,
                b_row,
                left,
                a_row,
                &beta,
                result,
                row,
            ),
            _ => sgemm_strided_batched(
                handle,
                operation(&b),
                operation(&a),
                n,
                m,
                k,
                &one,
                right,
                b_row,
                b.step as i64,
                left,
                a_row,
                a.step as i64,
                &beta,
                result,
                row,
                p.step as i64,
                int(p.count)?,
            ),
        }
    };
    multiplied.map_err(failed)
}
