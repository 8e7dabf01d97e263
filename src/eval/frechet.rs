//! The Fréchet distance between two normal distributions.

use nalgebra::linalg::{SymmetricEigen, SVD};
use nalgebra::DMatrix;

use super::statistics::FeatureStatistics;
use crate::error::{Error, Result};

/// More steps than any eigenvalue needs.
const MAX_STEPS: usize = 100_000;

/// The (squared) Fréchet distance between the normal distributions with these means and
/// covariances, (arXiv 1706.08500, Eq. 6):
///
/// |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))
///
/// The trace of (S1 S2)^(1/2) is the sum of the singular values of S1^(1/2) S2^(1/2), which are not
/// negative for any covariances. Singular ones (fewer samples than features, or features that do
/// not vary) need nothing added to their diagonals: eigenvalues that are 0 up to rounding, at most
/// dim * 2.2e-16 of the largest, count as 0. A distance below 0 by rounding is returned as 0.
///
/// # Errors
/// [`Error::Parameter`] for fewer than 2 samples, [`Error::Shape`] for different numbers of
/// features.
pub fn frechet_distance(a: &FeatureStatistics, b: &FeatureStatistics) -> Result<f64> {
    if a.dim() != b.dim() {
        return Err(Error::shape(
            "frechet_distance",
            "features of a sample",
            a.dim(),
            b.dim(),
        ));
    }
    let means = a.mean().iter().zip(b.mean());
    let squares: f64 = means.map(|(a, b)| (a - b) * (a - b)).sum();
    let (a, b) = (covariance(a)?, covariance(b)?);
    let traces = a.trace() + b.trace();
    let product = square_root(a)? * square_root(b)?;
    let svd = SVD::try_new(product, false, false, f64::EPSILON, MAX_STEPS);
    let root_trace = svd.ok_or_else(not_found)?.singular_values.sum();
    Ok((squares + traces - 2.0 * root_trace).max(0.0))
}

fn covariance(statistics: &FeatureStatistics) -> Result<DMatrix<f64>> {
    let dim = statistics.dim();
    Ok(DMatrix::from_vec(dim, dim, statistics.covariance()?))
}

/// The square root of a symmetric matrix without negative eigenvalues (but for rounding).
fn square_root(matrix: DMatrix<f64>) -> Result<DMatrix<f64>> {
    let eigen = SymmetricEigen::try_new(matrix, f64::EPSILON, MAX_STEPS);
    let SymmetricEigen {
        eigenvectors: vectors,
        eigenvalues: values,
    } = eigen.ok_or_else(not_found)?;
    let rounding = values.amax() * values.len() as f64 * f64::EPSILON;
    let mut scaled = vectors.clone();
    for (mut column, &value) in scaled.column_iter_mut().zip(values.iter()) {
        column *= if value > rounding { value.sqrt() } else { 0.0 };
    }
    Ok(scaled * vectors.transpose())
}

fn not_found() -> Error {
    Error::parameter(
        "covariance",
        "a matrix whose eigenvalues are not found",
        "one of finite values, not near the largest that f64 can hold",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn of(samples: &[f32], dim: usize) -> FeatureStatistics {
        let mut statistics = FeatureStatistics::new(dim).unwrap();
        statistics.push(samples).unwrap();
        statistics
    }

    /// Numbers without a pattern, in -1..=1.
    fn samples(n: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..n * dim).map(|_| next()).collect()
    }

    fn distance(a: &FeatureStatistics, b: &FeatureStatistics) -> f64 {
        frechet_distance(a, b).unwrap()
    }

    /// `tests/fixtures/make_frechet.py` has the scipy code.
    #[test]
    fn equal_to_scipy() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/frechet.json");
        let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for name in ["well_conditioned", "rank_deficient"] {
            let pair = &fixture[name];
            let numbers = |key: &str| -> Vec<f64> {
                let list = pair[key].as_array().unwrap().iter();
                list.map(|v| v.as_f64().unwrap()).collect()
            };
            let dim = pair["dim"].as_u64().unwrap() as usize;
            let set = |key| {
                let samples: Vec<f32> = numbers(key).iter().map(|&v| v as f32).collect();
                of(&samples, dim)
            };
            let (a, b) = (set("a"), set("b"));
            let near = |found: &[f64], wanted: &[f64]| {
                assert_eq!(found.len(), wanted.len());
                for (a, b) in found.iter().zip(wanted) {
                    assert!((a - b).abs() < 1e-13, "{name}: {a} {b}");
                }
            };
            near(a.mean(), &numbers("mean_a"));
            near(&a.covariance().unwrap(), &numbers("covariance_a"));
            let wanted = pair["distance"].as_f64().unwrap();
            for found in [distance(&a, &b), distance(&b, &a)] {
                assert!(
                    (found - wanted).abs() < 1e-12 * wanted,
                    "{name}: {found} {wanted}"
                );
            }
        }
    }

    #[test]
    fn a_set_is_at_distance_0_from_itself_and_from_its_permutations() {
        // More samples than features, fewer, and features that do not vary.
        for (n, dim) in [(300, 16), (20, 48), (2, 5), (40, 1)] {
            let mut x = samples(n, dim, 1);
            if dim > 10 {
                x.iter_mut().step_by(dim).for_each(|v| *v = 3.0);
            }
            let a = of(&x, dim);
            assert!(distance(&a, &a) < 1e-12 * dim as f64, "{n} {dim}");
            let back: Vec<f32> = x.chunks(dim).rev().flatten().copied().collect();
            assert!(distance(&a, &of(&back, dim)) < 1e-12 * dim as f64);
        }
        let constant = of(&[2.0; 12], 3);
        assert_eq!(distance(&constant, &constant), 0.0);
    }

    #[test]
    fn a_shift_is_its_square() {
        for (n, dim) in [(60, 8), (4, 8)] {
            let a = samples(n, dim, 2);
            let b: Vec<f32> = a.iter().map(|v| v + 0.5).collect();
            let wanted = 0.25 * dim as f64;
            let found = distance(&of(&a, dim), &of(&b, dim));
            // The shifted numbers are rounded to f32.
            assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
        }
    }

    #[test]
    fn independent_features_have_the_distance_of_their_deviations() {
        // One feature: (m1 - m2)^2 + (s1 - s2)^2. The variances are 2 and 18.
        let found = distance(&of(&[0.0, 2.0], 1), &of(&[5.0, 11.0], 1));
        let wanted = 49.0 + (18f64.sqrt() - 2f64.sqrt()).powi(2);
        assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
    }

    #[test]
    fn the_batches_and_the_threads_do_not_matter() {
        let (x, y) = (samples(50, 20, 3), samples(50, 20, 4));
        let wanted = distance(&of(&x, 20), &of(&y, 20));
        for threads in [1, 3] {
            let found = crate::on_threads(Some(threads), || distance(&of(&x, 20), &of(&y, 20)));
            assert_eq!(found.unwrap(), wanted);
        }
    }

    #[test]
    fn what_has_no_distance_is_refused() {
        let two = of(&[1.0, 2.0, 3.0, 5.0], 2);
        for few in [of(&[], 2), of(&[1.0, 2.0], 2)] {
            for (a, b) in [(&two, &few), (&few, &two)] {
                let m = frechet_distance(a, b).unwrap_err().to_string();
                assert!(m.contains("samples") && m.contains("at least 2"), "{m}");
            }
        }
        let m = frechet_distance(&two, &of(&[1.0, 2.0], 1)).unwrap_err();
        assert!(m.to_string().contains("expected 2, found 1"), "{m}");
        let huge = of(&[f32::MAX, -f32::MAX, -f32::MAX, f32::MAX], 2);
        assert!(distance(&huge, &two).is_finite());
    }
}
