//! As many channels as the gradient needs: a rule instead of a rate.

use super::largest::descending;
use super::DropRate;
use crate::error::{Error, Result};

/// Keeps the fewest channels that together hold a given share of the summed importance, within
/// bounds on the kept share of the channels. (Beyond the paper, which leaves it as future work.)
///
/// With importances s_1 >= s_2 >= ... of n channels, k is the smallest count for which
/// s_1 + ... + s_k >= share * (s_1 + ... + s_n), clamped to at least max(floor(min_keep * n), 1)
/// and at most max(floor(max_keep * n), 1).
///
/// ```
/// use ssprop::sparsity::AdaptiveKeep;
///
/// let rule = AdaptiveKeep::new(0.9)?;
/// assert_eq!(rule.kept_of(&[5.0, 0.5, 4.0, 0.5]), 2);
/// // A gradient that is spread out needs more channels.
/// assert_eq!(rule.kept_of(&[1.0; 4]), 4);
/// assert_eq!(rule.with_bounds(0.25, 0.75)?.kept_of(&[1.0; 4]), 3);
/// assert!(AdaptiveKeep::new(1.5).is_err());
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveKeep {
    share: f64,
    min: DropRate,
    max: DropRate,
}

impl AdaptiveKeep {
    /// A rule that keeps the share `share` of the summed importance, with one channel at least and
    /// all at most.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < `share` <= 1.
    pub fn new(share: f64) -> Result<Self> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::parameter(
                "share of the importance",
                share,
                "greater than 0 and at most 1",
            ));
        }
        Ok(Self {
            share,
            // A single channel, of however many.
            min: DropRate::MOST,
            max: DropRate::DENSE,
        })
    }

    /// The same with at least the share `min_keep` of the channels kept, and at most `max_keep`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < `min_keep` <= `max_keep` <= 1.
    pub fn with_bounds(self, min_keep: f64, max_keep: f64) -> Result<Self> {
        let (min, max) = (
            DropRate::from_keep(min_keep)?,
            DropRate::from_keep(max_keep)?,
        );
        if min_keep > max_keep {
            return Err(Error::parameter(
                "bounds of the kept share",
                format_args!("{min_keep} to {max_keep}"),
                "a lower bound that is not above the upper one",
            ));
        }
        Ok(Self { min, max, ..self })
    }

    /// The share of the summed importance that is kept, in (0, 1].
    pub fn share(&self) -> f64 {
        self.share
    }

    /// The drop rate at the upper bound of the kept share: the least that can come out, for FLOPs
    /// accounts made before training.
    pub fn least_drop_rate(&self) -> DropRate {
        self.max
    }

    /// How many channels of these importances are kept: at least 1, unless there are none.
    ///
    /// If no channel has any importance, as many as the lower bound says; if one is NaN, as many as
    /// the upper bound says.
    pub fn kept_of(&self, importance: &[f64]) -> usize {
        let mut sorted = importance.to_vec();
        sorted.sort_unstable_by(|a, b| descending(*a, *b));
        // Both sums in one order, so that a share of 1 is reached by the whole, exactly.
        let needed = self.share * sorted.iter().sum::<f64>();
        let mut sum = 0.0;
        let mut count = 0;
        // NaN is never enough.
        let enough = |sum: f64| sum >= needed;
        while count < sorted.len() && !enough(sum) {
            sum += sorted[count];
            count += 1;
        }
        let n = importance.len();
        count.clamp(self.min.kept_of(n), self.max.kept_of(n)).min(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_smallest_count_that_holds_the_share() {
        let importance: Vec<f64> = (0..50).map(|i| f64::from((i * 37) % 23)).collect();
        let total: f64 = importance.iter().sum();
        let mut sorted = importance.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let top = |count: usize| sorted[..count].iter().sum::<f64>();
        for percent in 1..=100 {
            let share = f64::from(percent) / 100.0;
            let count = AdaptiveKeep::new(share).unwrap().kept_of(&importance);
            assert!(top(count) >= share * total, "{percent}%: {count}");
            assert!(top(count - 1) < share * total, "{percent}%: {count}");
        }
    }

    #[test]
    fn bounds_hold() {
        let rule = AdaptiveKeep::new(0.5).unwrap();
        let peak = [100.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        assert_eq!(rule.kept_of(&peak), 1);
        assert_eq!(rule.with_bounds(0.3, 1.0).unwrap().kept_of(&peak), 3);
        assert_eq!(rule.kept_of(&[1.0; 10]), 5);
        let rule = rule.with_bounds(0.1, 0.2).unwrap();
        assert_eq!(rule.kept_of(&[1.0; 10]), 2);
        assert_eq!(rule.least_drop_rate().kept_of(10), 2);
        assert_eq!(rule.kept_of(&[]), 0);
    }

    #[test]
    fn nothing_and_nan_go_to_the_bounds() {
        let rule = AdaptiveKeep::new(0.9).unwrap();
        assert_eq!(rule.kept_of(&[0.0; 8]), 1);
        assert_eq!(rule.kept_of(&[1.0, f64::NAN, 0.0]), 3);
        let rule = rule.with_bounds(0.25, 0.5).unwrap();
        assert_eq!(rule.kept_of(&[0.0; 8]), 2);
        assert_eq!(rule.kept_of(&[f64::NAN; 8]), 4);
        // Channels without any importance are not needed for the whole.
        let whole = AdaptiveKeep::new(1.0).unwrap();
        assert_eq!(whole.kept_of(&[0.1, 0.0, 0.2, 0.3, 0.0]), 3);
        assert_eq!(whole.kept_of(&[0.1; 10]), 10);
    }

    #[test]
    fn bad_values_are_named() {
        for share in [0.0, -0.1, 1.1, f64::NAN] {
            let err = AdaptiveKeep::new(share).unwrap_err().to_string();
            assert!(err.contains(&share.to_string()), "{err}");
        }
        let rule = AdaptiveKeep::new(0.9).unwrap();
        let err = rule.with_bounds(0.6, 0.4).unwrap_err().to_string();
        assert!(err.contains("0.6 to 0.4"), "{err}");
        assert!(rule.with_bounds(0.0, 0.4).is_err());
        assert!(rule.with_bounds(0.1, 1.4).is_err());
    }
}
