//! When to stop, and which epoch was the best.

use crate::error::{Error, Result};

/// Follows a value that is measured after every epoch: which was the best, and whether it has stopped
/// getting better.
///
/// ```
/// use ssprop::train::EarlyStopping;
///
/// let mut losses = EarlyStopping::smallest(2)?;
/// assert!(losses.is_better(0.9) && losses.is_better(0.7));
/// assert!(!losses.is_better(0.8) && !losses.is_over());
/// assert!(!losses.is_better(f64::NAN) && losses.is_over());
/// assert_eq!(losses.best(), Some(0.7));
/// # Ok::<(), ssprop::Error>(())
/// ```
///
/// A run in a folder does so itself: `RunConfig::stop_after`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStopping {
    smallest: bool,
    patience: u64,
    min_delta: f64,
    best: Option<f64>,
    since: u64,
}

impl EarlyStopping {
    /// For a value that should be large (an accuracy), over after `patience` epochs in a row without a
    /// better one.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a patience of 0.
    pub fn largest(patience: u64) -> Result<Self> {
        if patience == 0 {
            return Err(Error::parameter("patience", patience, "at least 1"));
        }
        Ok(Self {
            smallest: false,
            patience,
            min_delta: 0.0,
            best: None,
            since: 0,
        })
    }

    /// For a value that should be small (a loss).
    ///
    /// # Errors
    /// As [`largest`](Self::largest).
    pub fn smallest(patience: u64) -> Result<Self> {
        Ok(Self {
            smallest: true,
            ..Self::largest(patience)?
        })
    }

    /// The same where only more than `min_delta` counts as better.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `min_delta` is negative or not finite.
    pub fn with_min_delta(mut self, min_delta: f64) -> Result<Self> {
        if !(min_delta.is_finite() && min_delta >= 0.0) {
            let range = "finite and at least 0";
            return Err(Error::parameter("min_delta", min_delta, range));
        }
        self.min_delta = min_delta;
        Ok(self)
    }

    /// Takes down the value of one more epoch: whether it is the best so far. NaN never is.
    pub fn is_better(&mut self, value: f64) -> bool {
        let better = match self.best {
            None => !value.is_nan(),
            Some(best) if self.smallest => value < best - self.min_delta,
            Some(best) => value > best + self.min_delta,
        };
        match better {
            true => (self.best, self.since) = (Some(value), 0),
            false => self.since += 1,
        }
        better
    }

    /// The best value so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// Whether the patience is at its end.
    pub fn is_over(&self) -> bool {
        self.since >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_and_the_end() {
        let mut accuracies = EarlyStopping::largest(2).unwrap();
        let values = [0.5, 0.5, 0.6, f64::NAN, 0.7, 0.7, 0.65];
        let better = values.map(|value| (accuracies.is_better(value), accuracies.is_over()));
        let expected = [
            (true, false),
            (false, false),
            (true, false),
            (false, false),
            (true, false),
            (false, false),
            (false, true),
        ];
        assert_eq!(better, expected);
        assert_eq!(accuracies.best(), Some(0.7));

        let losses = EarlyStopping::smallest(1).unwrap();
        let mut losses = losses.with_min_delta(0.1).unwrap();
        assert!(losses.is_better(1.0) && !losses.is_better(0.95) && losses.is_over());
        assert!(losses.is_better(0.8) && !losses.is_over());
    }

    #[test]
    fn bad_values_are_named() {
        let err = EarlyStopping::largest(0).unwrap_err().to_string();
        assert_eq!(err, "patience = 0: must be at least 1");
        let delta = EarlyStopping::smallest(1).unwrap().with_min_delta(-1.0);
        assert!(delta.unwrap_err().to_string().starts_with("min_delta = -1"));
    }
}
