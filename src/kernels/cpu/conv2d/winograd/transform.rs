//! The matrices of F(4x4, 3x3).
//!
//! For one dimension, with input d (6), filter g (3) and output y (4):
//! y = At [(G g) * (Bt d)]. Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*
//! (arXiv 1509.09308), Sec. 4.3. The backward passes use the transposes.
//!
//! The interpolation points are 0, a, -a, b, -b and infinity with a = sqrt(1/2) and b = sqrt(2),
//! since their powers stay near 1: the error is about a fifth of that of the usual 1 and 2.

use crate::kernels::cpu::simd::Simd;

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

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;
const A2: f32 = 0.5;
const B2: f32 = 2.0;
const A3: f32 = A * A2;
const B3: f32 = B * B2;

impl Transform<6, 6> for Input {
    #[inline(always)]
    unsafe fn apply<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
        // Coefficients of M(x) / (x - point), where M(x) = x (x^2 - a^2) (x^2 - b^2); a^2 b^2 = 1.
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b) = (S::splat(A), S::splat(B));
            let (a2, b2) = (S::splat(-A2), S::splat(-B2));
            let sum2 = S::splat(-(A2 + B2));
            let (even_a, odd_a) = (S::fma(b2, d[2], d[4]), S::mul(a, S::fma(b2, d[1], d[3])));
            let (even_b, odd_b) = (S::fma(a2, d[2], d[4]), S::mul(b, S::fma(a2, d[1], d[3])));
            [
                S::fma(sum2, d[2], S::add(d[0], d[4])),
                S::add(even_a, odd_a),
                S::sub(even_a, odd_a),
                S::add(even_b, odd_b),
                S::sub(even_b, odd_b),
                S::fma(sum2, d[3], S::add(d[1], d[5])),
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
            let (even_a, odd_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (even_b, odd_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            let cubes = S::fma(S::splat(B3), odd_b, S::mul(S::splat(A3), odd_a));
            [
                S::add(m[0], S::add(even_a, even_b)),
                S::fma(S::splat(B), odd_b, S::mul(S::splat(A), odd_a)),
                S::fma(S::splat(B2), even_b, S::mul(S::splat(A2), even_a)),
                S::add(m[5], cubes),
            ]
        }
    }
}

impl Transform<4, 6> for OutputGradient {
    #[inline(always)]
    unsafe fn apply<S: Simd>(y: [S::V; 4]) -> [S::V; 6] {
        // SAFETY: the caller's promise.
        unsafe {
            let even_a = S::fma(S::splat(A2), y[2], y[0]);
            let odd_a = S::fma(S::splat(A3), y[3], S::mul(S::splat(A), y[1]));
            let even_b = S::fma(S::splat(B2), y[2], y[0]);
            let odd_b = S::fma(S::splat(B3), y[3], S::mul(S::splat(B), y[1]));
            [
                y[0],
                S::add(even_a, odd_a),
                S::sub(even_a, odd_a),
                S::add(even_b, odd_b),
                S::sub(even_b, odd_b),
                y[3],
            ]
        }
    }
}

// The filter's rows are divided by the product of the differences between their point and the
// others: 1 for 0, 2 a^2 (a^2 - b^2) for a and -a, 2 b^2 (b^2 - a^2) for b and -b.
const PER_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const PER_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

impl Transform<3, 6> for Filter {
    #[inline(always)]
    unsafe fn apply<S: Simd>(g: [S::V; 3]) -> [S::V; 6] {
        // SAFETY: the caller's promise.
        unsafe {
            let even_a = S::fma(S::splat(PER_A * A2), g[2], S::mul(S::splat(PER_A), g[0]));
            let odd_a = S::mul(S::splat(PER_A * A), g[1]);
            let even_b = S::fma(S::splat(PER_B * B2), g[2], S::mul(S::splat(PER_B), g[0]));
            let odd_b = S::mul(S::splat(PER_B * B), g[1]);
            [
                g[0],
                S::add(even_a, odd_a),
                S::sub(even_a, odd_a),
                S::add(even_b, odd_b),
                S::sub(even_b, odd_b),
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
            let (even_a, odd_a) = (S::add(u[1], u[2]), S::sub(u[1], u[2]));
            let (even_b, odd_b) = (S::add(u[3], u[4]), S::sub(u[3], u[4]));
            [
                S::fma(
                    S::splat(PER_B),
                    even_b,
                    S::fma(S::splat(PER_A), even_a, u[0]),
                ),
                S::fma(
                    S::splat(PER_B * B),
                    odd_b,
                    S::mul(S::splat(PER_A * A), odd_a),
                ),
                S::fma(
                    S::splat(PER_B * B2),
                    even_b,
                    S::fma(S::splat(PER_A * A2), even_a, u[5]),
                ),
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
