//! What the tests of the convolution's algorithms share.

use rand::{rngs::StdRng, Rng};

/// Numbers between -1 and 1.
pub fn random(rng: &mut StdRng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.gen_range(-1.0..1.0)).collect()
}

/// In f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x as f64).collect()
}

/// Largest error, as a share of the largest element; NaN if one of them is.
pub fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected
        .iter()
        .fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let errors = found
        .iter()
        .zip(expected)
        .map(|(&f, e)| (f as f64 - e).abs());
    // (`max` alone would pass over what is not a number.)
    let worst = errors.fold(0.0f64, |m, e| {
        if m.is_nan() || e.is_nan() {
            f64::NAN
        } else {
            m.max(e)
        }
    });
    worst / scale
}
