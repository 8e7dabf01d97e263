//! Mean and deviation over runs.

/// The results of runs that differ by their seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Mean of the runs that came to an end; NaN if none did.
    pub mean: f64,
    /// Their sample standard deviation, sqrt(sum((x - mean)^2) / (n - 1)); 0 for a single run, NaN
    /// for none.
    pub std: f64,
    /// All runs.
    pub runs: usize,
    /// Runs without a result (NaN), which are left out of the mean.
    pub diverged: usize,
}

impl Summary {
    pub fn of(results: &[f64]) -> Self {
        let finite: Vec<f64> = results.iter().copied().filter(|v| v.is_finite()).collect();
        let n = finite.len() as f64;
        let mean = finite.iter().sum::<f64>() / n;
        let squares: f64 = finite.iter().map(|v| (v - mean).powi(2)).sum();
        let std = match finite.len() {
            1 => 0.0,
            _ => (squares / (n - 1.0)).sqrt(),
        };
        Self {
            mean,
            std: if finite.is_empty() { f64::NAN } else { std },
            runs: results.len(),
            diverged: results.len() - finite.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_by_hand() {
        // 2, 4, 9: mean 5, squares 9 + 1 + 16 = 26, over 2.
        let s = Summary::of(&[2.0, 4.0, 9.0]);
        assert_eq!((s.mean, s.runs, s.diverged), (5.0, 3, 0));
        assert!((s.std - 13f64.sqrt()).abs() < 1e-12);
        let one = Summary::of(&[0.5]);
        assert_eq!((one.mean, one.std), (0.5, 0.0));
    }

    #[test]
    fn diverged_runs_are_counted_and_left_out() {
        let s = Summary::of(&[1.0, f64::NAN, 3.0]);
        assert_eq!((s.mean, s.runs, s.diverged), (2.0, 3, 1));
        for none in [&[][..], &[f64::NAN; 2]] {
            let s = Summary::of(none);
            assert!(s.mean.is_nan() && s.std.is_nan(), "{s:?}");
        }
    }
}
