//! Mean and covariance of rows of features.

use crate::error::{Error, Result};

/// Mean and covariance of a set of samples, each a row of features, taken in one by one.
///
/// All sums are in f64, and each sample updates them in turn (Welford's method: deviations are from
/// the mean so far, so that a large mean cancels nothing). So the bits depend on the order of the
/// samples, but not on how they come in batches or on the number of threads.
///
/// ```
/// use ssprop::eval::FeatureStatistics;
///
/// let mut statistics = FeatureStatistics::new(2)?;
/// statistics.push(&[1.0, 0.0, 3.0, 4.0])?;
/// statistics.push(&[5.0, -4.0])?;
/// assert_eq!((statistics.count(), statistics.mean()), (3, &[3.0, 0.0][..]));
/// assert_eq!(statistics.covariance()?, [4.0, -4.0, -4.0, 16.0]);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureStatistics {
    count: usize,
    mean: Vec<f64>,
    /// The sums of products of deviations, row by row, of which only those with the column at or
    /// above the row are kept up to date.
    products: Vec<f64>,
    /// The deviations of the sample that is being taken in.
    deviation: Vec<f64>,
}

impl FeatureStatistics {
    /// Of no samples yet, each of `dim` features.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `dim` is 0, or so large that its square cannot be allocated.
    pub fn new(dim: usize) -> Result<Self> {
        let too_large = || {
            Error::parameter(
                "dim",
                dim,
                "at least 1, and its square small enough for memory",
            )
        };
        let len = dim.checked_mul(dim).filter(|&len| len > 0);
        let len = len.ok_or_else(too_large)?;
        let mut products = Vec::new();
        products.try_reserve_exact(len).map_err(|_| too_large())?;
        products.resize(len, 0.0);
        Ok(Self {
            count: 0,
            mean: vec![0.0; dim],
            products,
            deviation: vec![0.0; dim],
        })
    }

    /// Takes in samples, (N, dim). On an error none of them.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not whole rows, [`Error::Parameter`] for a feature that is
    /// infinite or NaN.
    pub fn push(&mut self, samples: &[f32]) -> Result<()> {
        let dim = self.dim();
        if !samples.len().is_multiple_of(dim) {
            return Err(Error::shape(
                "FeatureStatistics::push",
                "number of features",
                format_args!("a multiple of {dim}"),
                samples.len(),
            ));
        }
        if let Some(at) = samples.iter().position(|v| !v.is_finite()) {
            let (sample, feature) = (self.count + at / dim, at % dim);
            return Err(Error::parameter(
                "feature",
                format_args!("{} (feature {feature} of sample {sample})", samples[at]),
                "finite",
            ));
        }
        for sample in samples.chunks_exact(dim) {
            self.add(sample);
        }
        Ok(())
    }

    fn add(&mut self, sample: &[f32]) {
        self.count += 1;
        let n = self.count as f64;
        for ((d, mean), &x) in self.deviation.iter_mut().zip(&mut self.mean).zip(sample) {
            *d = f64::from(x) - *mean;
            *mean += *d / n;
        }
        // The products of the deviations from the old and from the new mean.
        let dim = self.mean.len();
        for (i, row) in self.products.chunks_exact_mut(dim).enumerate() {
            let scaled = self.deviation[i] * (n - 1.0) / n;
            for (sum, &d) in row[i..].iter_mut().zip(&self.deviation[i..]) {
                *sum += scaled * d;
            }
        }
    }

    /// Features of a sample.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Samples taken in.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean of each feature, (dim); zeros without samples.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The unbiased covariance, (dim, dim), which divides by N - 1 (as numpy's `cov` does).
    ///
    /// # Errors
    /// [`Error::Parameter`] for fewer than 2 samples.
    pub fn covariance(&self) -> Result<Vec<f64>> {
        if self.count < 2 {
            return Err(Error::parameter("samples", self.count, "at least 2"));
        }
        let (dim, n) = (self.dim(), (self.count - 1) as f64);
        let element = |i: usize| {
            let (row, column) = (i / dim, i % dim);
            self.products[row.min(column) * dim + row.max(column)] / n
        };
        Ok((0..dim * dim).map(element).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` samples of `dim` features around `mean`.
    fn samples(n: usize, dim: usize, mean: f32) -> Vec<f32> {
        let value = |i: usize| ((i * i * 31 + i * 7) % 1009) as f32 / 500.0;
        (0..n * dim).map(|i| mean + value(i)).collect()
    }

    fn of(samples: &[f32], dim: usize) -> FeatureStatistics {
        let mut statistics = FeatureStatistics::new(dim).unwrap();
        statistics.push(samples).unwrap();
        statistics
    }

    #[test]
    fn equal_to_two_passes_even_far_from_zero() {
        for mean in [0.0, 1000.0, -65536.0] {
            let (n, dim) = (57, 5);
            let x = samples(n, dim, mean);
            let x64 = |s: usize, i: usize| f64::from(x[s * dim + i]);
            let means: Vec<f64> = (0..dim)
                .map(|i| (0..n).map(|s| x64(s, i)).sum::<f64>() / n as f64)
                .collect();
            let found = of(&x, dim);
            for (a, b) in found.mean().iter().zip(&means) {
                assert!((a - b).abs() <= 1e-14 * b.abs().max(1.0), "{a} {b}");
            }
            let covariance = found.covariance().unwrap();
            for i in 0..dim {
                for j in 0..dim {
                    let product = |s| (x64(s, i) - means[i]) * (x64(s, j) - means[j]);
                    let wanted = (0..n).map(product).sum::<f64>() / (n - 1) as f64;
                    let found = covariance[i * dim + j];
                    assert!((found - wanted).abs() < 1e-10, "{mean}: {found} {wanted}");
                }
            }
        }
    }

    #[test]
    fn batches_do_not_matter() {
        let x = samples(20, 3, 1.0);
        let whole = of(&x, 3);
        for size in [1, 2, 7, 19] {
            let mut parts = FeatureStatistics::new(3).unwrap();
            for batch in x.chunks(3 * size) {
                parts.push(batch).unwrap();
            }
            parts.push(&[]).unwrap();
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn the_order_matters_by_rounding_only() {
        let x = samples(40, 4, 10.0);
        let back: Vec<f32> = x.chunks(4).rev().flatten().copied().collect();
        let (a, b) = (of(&x, 4), of(&back, 4));
        let pairs = a.covariance().unwrap().into_iter();
        for (a, b) in pairs.zip(b.covariance().unwrap()) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_statistic_is_refused() {
        for dim in [0, usize::MAX, 1 << 40] {
            let m = FeatureStatistics::new(dim).unwrap_err().to_string();
            assert!(m.contains(&dim.to_string()), "{m}");
        }
        let mut statistics = of(&[1.0, 2.0], 2);
        let m = statistics.covariance().unwrap_err().to_string();
        assert!(m.contains("samples = 1"), "{m}");
        let m = statistics.push(&[0.0; 3]).unwrap_err().to_string();
        assert!(m.contains("multiple of 2") && m.contains('3'), "{m}");
        let before = statistics.clone();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let m = statistics.push(&[0.0, 1.0, 2.0, bad]).unwrap_err();
            let m = m.to_string();
            assert!(m.contains("feature 1 of sample 2"), "{m}");
            assert_eq!(statistics, before, "all or nothing");
        }
    }
}
