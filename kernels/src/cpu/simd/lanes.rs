//! Kernels compiled for several instruction sets, chosen when the program runs.
//!
//! The crate is built for the oldest processor of its target. Loops over contiguous elements run
//! several times faster with wide vectors, so the kernels that have such loops are compiled once
//! more for each of AVX2 and AVX-512. Kernels add in fixed lanes and never fuse a product with a
//! sum, so their results are the same to the bit whichever version runs.

/// Defines a function, generic over the element type `E`, that runs its body compiled for the best
/// instruction set of this processor.
///
/// Functions called in the body have to be `#[inline(always)]` to be compiled along with it.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<E>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<E: $crate::cpu::element::Element>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<E: $crate::cpu::element::Element>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512<E: $crate::cpu::element::Element>($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2<E: $crate::cpu::element::Element>($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                let isa = $crate::cpu::simd::Isa::detect();
                if isa.has_avx512() {
                    // SAFETY: the processor has the features that the function was compiled for.
                    return unsafe { avx512($($arg),*) };
                }
                if isa.has_avx2() {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;

use crate::cpu::element::Element;

/// Partial sums kept side by side: one AVX-512 register of f32.
const LANES: usize = 16;

/// The elements that are added up in the element type before the sum goes into an f64.
pub(crate) const SUM_RUN: usize = 1024;

/// `v` as f64. For the floats that kernels take this is exact.
#[inline(always)]
pub(crate) fn to_f64<E: Element>(v: E) -> f64 {
    v.to_f64().unwrap_or(f64::NAN)
}

/// `v` rounded to the element type.
#[inline(always)]
pub(crate) fn from_f64<E: Element>(v: f64) -> E {
    E::from_f64(v).unwrap_or_else(E::nan)
}

/// A sum, kept in lanes side by side.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<E>([E; LANES]);

impl<E: Element> Lanes<E> {
    /// An empty sum.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self([E::zero(); LANES])
    }

    /// Adds f(a_i).
    #[inline(always)]
    pub(crate) fn add(&mut self, a: &[E], f: impl Fn(E) -> E) {
        let (chunks, rest) = a.as_chunks::<LANES>();
        let mut sum = self.0;
        for a in chunks {
            for l in 0..LANES {
                sum[l] += f(a[l]);
            }
        }
        for (sum, &a) in sum.iter_mut().zip(rest) {
            *sum += f(a);
        }
        self.0 = sum;
    }

    /// Adds f(a_i, b_i).
    #[inline(always)]
    pub(crate) fn add_pairs(&mut self, a: &[E], b: &[E], f: impl Fn(E, E) -> E) {
        let (chunks_a, rest_a) = a.as_chunks::<LANES>();
        let (chunks_b, rest_b) = b.as_chunks::<LANES>();
        let mut sum = self.0;
        for (a, b) in chunks_a.iter().zip(chunks_b) {
            for l in 0..LANES {
                sum[l] += f(a[l], b[l]);
            }
        }
        for ((sum, &a), &b) in sum.iter_mut().zip(rest_a).zip(rest_b) {
            *sum += f(a, b);
        }
        self.0 = sum;
    }

    /// Adds t_i to one sum and t_i * f(a_i) to the other, where t_i = term(a_i, b_i).
    #[inline(always)]
    pub(crate) fn add_with_dot(
        sums: &mut [Self; 2],
        a: &[E],
        b: &[E],
        term: impl Fn(E, E) -> E,
        f: impl Fn(E) -> E,
    ) {
        let [Self(mut sum), Self(mut dot)] = *sums;
        let (chunks_a, rest_a) = a.as_chunks::<LANES>();
        let (chunks_b, rest_b) = b.as_chunks::<LANES>();
        for (a, b) in chunks_a.iter().zip(chunks_b) {
            for l in 0..LANES {
                let t = term(a[l], b[l]);
                sum[l] += t;
                dot[l] += t * f(a[l]);
            }
        }
        for (l, (&a, &b)) in rest_a.iter().zip(rest_b).enumerate() {
            let t = term(a, b);
            sum[l] += t;
            dot[l] += t * f(a);
        }
        *sums = [Self(sum), Self(dot)];
    }

    /// The total of the lanes.
    #[inline(always)]
    pub(crate) fn total(self) -> f64 {
        let mut lanes = self.0;
        let mut width = LANES / 2;
        while width > 0 {
            for l in 0..width {
                let upper = lanes[l + width];
                lanes[l] += upper;
            }
            width /= 2;
        }
        to_f64(lanes[0])
    }
}

/// The sum of f(a_i). A run whose sum is too large for the element type (or NaN, or has an infinite
/// term) is summed again in f64, so that large terms do not make it infinite.
#[inline(always)]
pub(crate) fn sum_of<E: Element>(a: &[E], f: impl Fn(E) -> E) -> f64 {
    let mut sum = 0.0;
    for run in a.chunks(SUM_RUN) {
        let mut lanes = Lanes::new();
        lanes.add(run, &f);
        let total = lanes.total();
        sum += match total.is_finite() {
            true => total,
            false => wide_sum(run, run, |a, _| to_f64(f(a))),
        };
    }
    sum
}

/// The sum of f(a_i) b_i, with large terms as in [`sum_of`].
#[inline(always)]
pub(crate) fn dot_of<E: Element>(a: &[E], b: &[E], f: impl Fn(E) -> E) -> f64 {
    let mut sum = 0.0;
    for (a, b) in a.chunks(SUM_RUN).zip(b.chunks(SUM_RUN)) {
        let mut lanes = Lanes::new();
        lanes.add_pairs(a, b, |a, b| b * f(a));
        let total = lanes.total();
        sum += match total.is_finite() {
            true => total,
            false => wide_sum(a, b, |a, b| to_f64(b) * to_f64(f(a))),
        };
    }
    sum
}

/// The sum of f(a_i, b_i) in f64: apart, so that it stays out of the loops that hardly ever need it.
#[cold]
#[inline(never)]
fn wide_sum<E: Element>(a: &[E], b: &[E], f: impl Fn(E, E) -> f64) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).sum()
}

/// max(v, 0), which keeps NaN.
#[inline(always)]
pub(crate) fn relu<E: Element>(v: E) -> E {
    if v <= E::zero() {
        E::zero()
    } else {
        v
    }
}

/// The gradient that ReLU lets through where its output is `y`.
#[inline(always)]
pub(crate) fn relu_grad<E: Element>(y: E, dy: E) -> E {
    if y <= E::zero() {
        E::zero()
    } else {
        dy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(always)]
    fn body_of_sums<E: crate::cpu::element::Element>(a: &[E]) -> [f64; 2] {
        let mut sums = [Lanes::new(); 2];
        Lanes::add_with_dot(&mut sums, a, a, |a, _| a, |a| a);
        let mut sum = Lanes::new();
        sum.add(a, |v| v);
        assert_eq!(sum.total(), sums[0].total());
        sums.map(Lanes::total)
    }

    multiversion! {
        fn sums<E>(a: &[E]) -> [f64; 2] {
            body_of_sums(a)
        }
    }

    #[test]
    fn versions_agree_to_the_bit() {
        for len in [0, 1, 15, 16, 17, 49, 1000] {
            let a: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            assert_eq!(sums(&a), body_of_sums(&a));
            let [sum, dot] = sums(&a);
            let exact: f64 = a.iter().map(|&v| v as f64).sum();
            assert!((sum - exact).abs() < 1e-4, "{len}");
            let exact: f64 = a.iter().map(|&v| v as f64 * v as f64).sum();
            assert!((dot - exact).abs() < 1e-3, "{len}");
        }
    }

    #[test]
    fn sums_of_large_terms_are_finite() {
        for len in [7, 1000, 3000] {
            let a = vec![-f32::MAX; len];
            let b = vec![-2.0; len];
            let exact = len as f64 * f64::from(f32::MAX);
            for (found, expected) in [
                (sum_of(&a, |v| v.abs()), exact),
                (sum_of(&a, |v| v), -exact),
                (dot_of(&a, &b, |v| v), 2.0 * exact),
            ] {
                assert!((found / expected - 1.0).abs() < 1e-12, "{len}: {found}");
            }
        }
        assert_eq!(sum_of(&[1.0, f32::INFINITY], |v| v), f64::INFINITY);
        assert!(sum_of(&[1.0, f32::NAN], |v| v).is_nan());
    }

    #[test]
    fn relu_keeps_nan() {
        assert_eq!((relu(-1.0), relu(0.0), relu(2.5)), (0.0, 0.0, 2.5));
        assert!(relu(f32::NAN).is_nan());
        assert_eq!(relu_grad(0.0, 3.0), 0.0);
        assert_eq!(relu_grad(1e-9, 3.0), 3.0);
    }
}
