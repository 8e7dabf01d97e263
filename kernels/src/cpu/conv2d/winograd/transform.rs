//! The matrices of F(4x4, 3x3).
//!
//! For one dimension, with input d (6), filter g (3) and output y (4):
//! y = At [(G g) * (Bt d)]. Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*
//! (arXiv 1509.09308), Sec. 4.3. The backward passes use the transposes.
//!
//! The interpolation points are 0, 1, -1, 1/2, -2 and infinity, for two reasons.
//!
//! Flat regions stay flat to the bit, as they do in a plain sum: max pools and the order of the
//! channels would otherwise be decided by rounding errors wherever an image's background is flat. An
//! input that is the same number c throughout transforms to nothing but 3 c at the point 1, provided
//! that the other points' coefficients, whose sum is 0, are applied to differences; and from that
//! point alone all four outputs are equal. The outer pixels d0 and d5 (the padding, at an image's
//! edge) reach the points 0 and infinity only, and those the outer outputs only.
//!
//! The error lies between that of the points with the smallest (0, sqrt(1/2) and sqrt(2) with both
//! signs, infinity) and that of the usual 0, 1, -1, 2, -2 and infinity.

use crate::cpu::simd::Simd;

/// One dimension of a transform, from `N` to `M` values.
pub trait Transform<const N: usize, const M: usize> {
    /// Multiplies the transform's matrix by `v`.
    ///
    /// # Safety
    /// The machine has `S`.
    unsafe fn apply<S: Simd>(v: [S::V; N]) -> [S::V; M];
}

/// Bt, of the input.
pub struct Input;
/// At, to the output.
pub struct Output;
/// A, of the output's gradient.
pub struct OutputGradient;
/// G, of the filter.
pub struct Filter;
/// Gt, to the filter's gradient.
pub struct FilterGradient;

impl Transform<6, 6> for Input {
    #[inline(always)]
    unsafe fn apply<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
        // Coefficients of M(x) / (x - point), where M(x) = x (x^2 - 1) (x - 1/2) (x + 2), and of M(x).
        // Of equal numbers all differences are 0, and so is every value but the second.
        // SAFETY: the caller's promise.
        unsafe {
            let (even, odd) = (S::sub(d[4], d[2]), S::sub(d[3], d[1]));
            let (first, last) = (S::sub(d[0], d[2]), S::sub(d[5], d[3]));
            let (sum, difference) = (S::add(d[3], d[2]), S::sub(d[3], d[2]));
            let three_halves = S::splat(1.5);
            [
                S::add(first, S::fma(three_halves, odd, even)),
                S::fma(three_halves, sum, S::add(even, odd)),
                S::fma(three_halves, difference, S::sub(even, odd)),
                S::fma(S::splat(2.0), odd, even),
                S::fma(S::splat(-0.5), odd, even),
                S::fma(three_halves, even, S::sub(last, odd)),
            ]
        }
    }
}

impl Transform<6, 4> for Output {
    #[inline(always)]
    unsafe fn apply<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
        // Powers of the points.
        // SAFETY: the caller's promise.
        unsafe {
            let (even, odd) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let power = |half, minus_two, one| {
                let v = S::fma(S::splat(half), m[3], one);
                S::fma(S::splat(minus_two), m[4], v)
            };
            [
                S::add(m[0], S::add(even, S::add(m[3], m[4]))),
                power(0.5, -2.0, odd),
                power(0.25, 4.0, even),
                S::add(m[5], power(0.125, -8.0, odd)),
            ]
        }
    }
}

impl Transform<4, 6> for OutputGradient {
    #[inline(always)]
    unsafe fn apply<S: Simd>(y: [S::V; 4]) -> [S::V; 6] {
        // SAFETY: the caller's promise.
        unsafe {
            let (even, odd) = (S::add(y[0], y[2]), S::add(y[1], y[3]));
            let powers = |x: f32| {
                let even = S::fma(S::splat(x * x), y[2], y[0]);
                let odd = S::fma(S::splat(x * x * x), y[3], S::mul(S::splat(x), y[1]));
                S::add(even, odd)
            };
            [
                y[0],
                S::add(even, odd),
                S::sub(even, odd),
                powers(0.5),
                powers(-2.0),
                y[3],
            ]
        }
    }
}

// The filter's rows are divided by the product of the differences between their point and the
// others: 1 for 0, 3 for 1, -3 for -1, -15/16 for 1/2, 15 for -2.
const PER_ONE: f32 = 1.0 / 3.0;
const PER_HALF: f32 = -16.0 / 15.0;
const PER_TWO: f32 = 1.0 / 15.0;

impl Transform<3, 6> for Filter {
    #[inline(always)]
    unsafe fn apply<S: Simd>(g: [S::V; 3]) -> [S::V; 6] {
        // SAFETY: the caller's promise.
        unsafe {
            let (even, per_one) = (S::add(g[0], g[2]), S::splat(PER_ONE));
            let powers = |x: f32, per: f32| {
                let low = S::fma(S::splat(per * x), g[1], S::mul(S::splat(per), g[0]));
                S::fma(S::splat(per * x * x), g[2], low)
            };
            [
                g[0],
                S::mul(per_one, S::add(even, g[1])),
                S::mul(per_one, S::sub(g[1], even)),
                powers(0.5, PER_HALF),
                powers(-2.0, PER_TWO),
                g[2],
            ]
        }
    }
}

impl Transform<6, 3> for FilterGradient {
    #[inline(always)]
    unsafe fn apply<S: Simd>(u: [S::V; 6]) -> [S::V; 3] {
        // SAFETY: the caller's promise.
        unsafe {
            let (even, odd) = (S::sub(u[1], u[2]), S::add(u[1], u[2]));
            let powers = |half: f32, minus_two: f32, one| {
                let v = S::fma(S::splat(PER_HALF * half), u[3], one);
                S::fma(S::splat(PER_TWO * minus_two), u[4], v)
            };
            let per_one = S::splat(PER_ONE);
            [
                powers(1.0, 1.0, S::fma(per_one, even, u[0])),
                powers(0.5, -2.0, S::mul(per_one, odd)),
                powers(0.25, 4.0, S::fma(per_one, even, u[5])),
            ]
        }
    }
}

/// Applies `T` along both axes of an N x N tile: `load(row, col)` to `store(row, col, v)`, M x M.
///
/// # Safety
/// The machine has `S`, and what `load` and `store` ask for.
#[inline(always)]
pub unsafe fn both_axes<S: Simd, T: Transform<N, M>, const N: usize, const M: usize>(
    load: impl Fn(usize, usize) -> S::V,
    mut store: impl FnMut(usize, usize, S::V),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut half = [[S::zero(); N]; M];
        for col in 0..N {
            let v = T::apply::<S>(std::array::from_fn(|row| load(row, col)));
            for (half, &v) in half.iter_mut().zip(&v) {
                half[col] = v;
            }
        }
        for (row, half) in half.iter().enumerate() {
            let v = T::apply::<S>(*half);
            for (col, &v) in v.iter().enumerate() {
                store(row, col, v);
            }
        }
    }
}
