//! GELU on the CPU: fixed blocks of elements.

use rayon::prelude::*;

use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::blocks::ELEMENTS;
use crate::cpu::element::Element;
use crate::cpu::simd::{from_f64, multiversion};

/// The tail of the normal distribution, x >= 0, is e^(-x^2 / 2) t P(2 t - 1) with t = 4 / (4 + x): the
/// coefficients of P, the constant one first, by Chebyshev interpolation. For f32, relative error 3e-9.
const TAIL_F32: [f64; 11] = [
    1.888212826e-1,
    1.519741010e-1,
    9.678434846e-2,
    4.663167772e-2,
    1.509916207e-2,
    1.878057845e-3,
    -8.699886594e-4,
    -3.909467247e-4,
    3.341334677e-5,
    3.933014240e-5,
    -4.327705754e-7,
];

/// For f64, relative error 1e-17.
const TAIL_F64: [f64; 25] = [
    1.888_212_826_039_378_8e-1,
    1.519_741_604_929_730_8e-1,
    9.678_435_018_555_373e-2,
    4.663_046_448_990_915e-2,
    1.509_914_372_272_947e-2,
    1.885_047_241_846_578e-3,
    -8.699_230_917_619_934e-4,
    -4.077_046_168_524_771e-4,
    3.333_607_735_295_814e-5,
    5.777_375_434_069_357e-5,
    -4.770_615_878_536_427e-7,
    -8.786_277_975_709_413e-6,
    1.791_646_910_298_780_2e-7,
    1.480_402_761_480_994_4e-6,
    -1.574_591_834_623_092e-7,
    -2.561_962_754_138_193_4e-7,
    6.811_574_237_786_468e-8,
    3.994_349_035_559_805e-8,
    -2.171_661_753_999_473_3e-8,
    -4.461_231_943_245_354e-9,
    5.356_900_960_863_089e-9,
    1.468_406_691_246_797_7e-10,
    -9.326_612_704_670_926e-10,
    2.999_445_507_813_274e-11,
    8.508_280_771_623_737e-11,
];

/// Of the standard normal distribution: the share below `x`, and e^(-x^2 / 2).
#[inline(always)]
fn normal<E: Element>(x: E) -> (E, E) {
    let bell = (x * x * from_f64(-0.5)).vector_exp();
    let t = from_f64::<E>(4.0) / (x.abs() + from_f64(4.0));
    let u = t + t - E::one();
    let tail: &[f64] = match size_of::<E>() {
        4 => &TAIL_F32,
        _ => &TAIL_F64,
    };
    let mut p = E::zero();
    for &coefficient in tail.iter().rev() {
        p = p * u + from_f64(coefficient);
    }
    let tail = bell * (t * p);
    let below = if x < E::zero() { tail } else { E::one() - tail };
    (below, bell)
}

multiversion! {
    fn block_forward<E>(x: &[E], y: &mut [E]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * normal(x).0;
        }
    }
}

multiversion! {
    fn block_backward<E>(x: &[E], dy: &[E], dx: &mut [E], fill: Fill) {
        let inverse_root_of_2_pi = from_f64::<E>(0.398_942_280_401_432_7);
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            let (below, bell) = normal(x);
            fill.write(dx, dy * (below + x * bell * inverse_root_of_2_pi));
        }
    }
}

concrete! {
    /// y = x times the share of the standard normal distribution below x
    pub fn forward<E: Element>(x: &[E], y: &mut [E]) {
        x.par_chunks(ELEMENTS)
            .zip(y.par_chunks_mut(ELEMENTS))
            .for_each(|(x, y)| block_forward(x, y));
    }

    /// dx (+)= dy times the derivative at x
    pub fn backward<E: Element>(x: &[E], dy: &[E], dx: &mut [E], fill: Fill) {
        x.par_chunks(ELEMENTS)
            .zip(dy.par_chunks(ELEMENTS))
            .zip(dx.par_chunks_mut(ELEMENTS))
            .for_each(|((x, dy), dx)| block_backward(x, dy, dx, fill));
    }
}
