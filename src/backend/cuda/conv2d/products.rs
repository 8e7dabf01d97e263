//! Batches of matrices, one behind the other, and their products.

use crate::bridge::cuda::calls::{tf32, Matrix, Product, Slice};

/// Consecutive matrices, of `height` rows of `row` elements.
pub(super) fn matrices(data: Slice<'_, f32>, row: usize, height: usize) -> Matrix<'_> {
    Matrix {
        data,
        row,
        step: height * row,
        transposed: false,
    }
}

pub(super) fn transposed(matrix: Matrix<'_>) -> Matrix<'_> {
    Matrix {
        transposed: true,
        ..matrix
    }
}

/// `count` products (m, k) x (k, n), one below the other.
pub(super) fn products([m, k, n]: [usize; 3], count: usize, add: bool) -> Product {
    Product {
        m,
        n,
        k,
        row: n,
        step: m * n,
        count,
        add,
        tf32: tf32().in_convolutions(),
    }
}
