//! The share of output channels that a backward pass drops.

use std::fmt;

use crate::error::{Error, Result};

/// The share of a layer's output channels that its backward pass drops: 0 (dense) up to, but not
/// including, 1. The paper's choice is 0.8 (Sec. "Gradient Scheduler").
///
/// ```
/// use ssprop::sparsity::DropRate;
///
/// let rate = DropRate::new(0.8)?;
/// assert_eq!(rate.kept_of(64), 12); // max(floor(0.2 * 64), 1)
/// assert_eq!(rate.kept_of(3), 1);
/// assert!(DropRate::new(1.2).is_err());
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct DropRate(f64);

impl DropRate {
    /// Nothing is dropped.
    pub const DENSE: Self = Self(0.0);

    /// What the paper drops in every second epoch: 0.8.
    pub const PAPER: Self = Self(0.8);
    /// The largest rate: one channel is left, of however many.
    pub(super) const MOST: Self = Self(1.0 - f64::EPSILON);

    /// A drop rate in [0, 1).
    ///
    /// # Errors
    /// [`Error::Parameter`] outside that range, or for NaN.
    pub fn new(rate: f64) -> Result<Self> {
        if (0.0..1.0).contains(&rate) {
            Ok(Self(rate))
        } else {
            Err(Error::parameter(
                "drop rate",
                rate,
                "at least 0 and less than 1",
            ))
        }
    }

    /// The drop rate that keeps a share of the channels: 1 - `keep`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < `keep` <= 1.
    pub fn from_keep(keep: f64) -> Result<Self> {
        // A keep too small to tell from 0 would drop everything.
        match Self::new(1.0 - keep) {
            Ok(rate) if keep > 0.0 => Ok(rate),
            _ => Err(Error::parameter(
                "keep",
                keep,
                "greater than 0 and at most 1",
            )),
        }
    }

    /// The rate, in [0, 1).
    pub fn rate(self) -> f64 {
        self.0
    }

    /// The share that is kept: 1 - rate.
    pub fn keep(self) -> f64 {
        1.0 - self.0
    }

    /// The rate `share` of the way from this one to `other`; with a share in 0..=1 it lies between.
    pub(super) fn towards(self, other: Self, share: f64) -> Self {
        if share == 1.0 {
            // Exactly, whatever the rounding below.
            return other;
        }
        let (low, high) = (self.0.min(other.0), self.0.max(other.0));
        Self((self.0 + (other.0 - self.0) * share).clamp(low, high))
    }

    /// Half of it.
    pub(crate) fn halved(self) -> Self {
        Self(self.0 / 2.0)
    }

    /// Whether nothing is dropped.
    pub fn is_dense(self) -> bool {
        self.0 == 0.0
    }

    /// How many of `channels` are kept: max(floor(keep * channels), 1).
    ///
    /// A product within 1e-9 of a whole number counts as that number: a drop rate of 0.8 keeps 2 of
    /// 10 channels, though 1 - 0.8 is a little less than 0.2 in binary.
    pub fn kept_of(self, channels: usize) -> usize {
        let kept = (self.keep() * channels as f64 + 1e-9).floor() as usize;
        kept.clamp(1, channels.max(1))
    }
}

impl Default for DropRate {
    fn default() -> Self {
        Self::DENSE
    }
}

impl TryFrom<f64> for DropRate {
    type Error = Error;
    fn try_from(rate: f64) -> Result<Self> {
        Self::new(rate)
    }
}

impl fmt::Display for DropRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 1e4).round() / 1e2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_counts_are_whole_numbers_where_the_product_is() {
        for channels in 1..=512 {
            for percent in 1..=100 {
                let rate = DropRate::new(1.0 - percent as f64 / 100.0).unwrap();
                let expected = (percent * channels / 100).max(1);
                assert_eq!(rate.kept_of(channels), expected, "{percent}% of {channels}");
            }
        }
    }

    #[test]
    fn out_of_range_rates_are_named() {
        for rate in [1.0, 1.2, -0.1, f64::NAN, f64::INFINITY] {
            let err = DropRate::new(rate).unwrap_err().to_string();
            assert!(err.contains(&rate.to_string()), "{err}");
        }
        assert!(DropRate::from_keep(0.0).is_err());
        assert!(DropRate::from_keep(1.01).is_err());
        assert!(DropRate::from_keep(1e-20).is_err());
        assert!(DropRate::from_keep(f64::NAN).is_err());
        assert!(DropRate::from_keep(1.0).unwrap().is_dense());
    }
}
