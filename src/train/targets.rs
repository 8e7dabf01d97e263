//! What a classifier is to say: label smoothing, and classes that count differently.

use crate::error::{Error, Result};

/// A smoothing in its range.
///
/// # Errors
/// [`Error::Parameter`] unless it is in 0..=1.
pub(super) fn checked_smoothing(smoothing: f64) -> Result<f64> {
    match (0.0..=1.0).contains(&smoothing) {
        true => Ok(smoothing),
        false => Err(Error::parameter("label_smoothing", smoothing, "in 0..=1")),
    }
}

/// Weights of classes that can be trained with.
///
/// # Errors
/// [`Error::Parameter`] for the first that is negative or not finite, and if none is more than 0.
pub(super) fn checked_weights(weights: Vec<f64>) -> Result<Vec<f64>> {
    let range = "finite, at least 0, and for one class more than 0";
    let wrong = |w: &&f64| !w.is_finite() || **w < 0.0;
    if let Some(wrong) = weights.iter().find(wrong) {
        return Err(Error::parameter("class_weights", wrong, range));
    }
    match weights.iter().any(|&w| w > 0.0) {
        true => Ok(weights),
        false => Err(Error::parameter(
            "class_weights",
            format_args!("{weights:?}"),
            range,
        )),
    }
}

/// How labels become targets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Targets {
    /// In 0..=1.
    pub(super) smoothing: f64,
    /// What each class counts, if not the same.
    pub(super) weights: Option<Vec<f64>>,
}

impl Targets {
    /// Whether they are more than the labels.
    pub(super) fn are_plain(&self) -> bool {
        self.smoothing == 0.0 && self.weights.is_none()
    }

    /// The targets of labels among `classes`: 1 - smoothing + smoothing / classes at the label, smoothing / classes
    /// elsewhere, times the class's weight over the mean weight of the labels: the mean of the losses is then PyTorch's.
    /// Labels are below `classes`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of weights.
    pub(super) fn of(&self, labels: &[usize], classes: usize) -> Result<Vec<f32>> {
        let others = self.smoothing / classes.max(1) as f64;
        let mut factors = vec![1.0; classes];
        if let Some(weights) = &self.weights {
            if weights.len() != classes {
                let what = "class weights";
                return Err(Error::shape("training", what, classes, weights.len()));
            }
            let sum: f64 = labels.iter().map(|&label| weights[label]).sum();
            // Where no image counts, the loss is 0.
            let factor = if sum > 0.0 {
                labels.len() as f64 / sum
            } else {
                0.0
            };
            factors = weights.iter().map(|weight| weight * factor).collect();
        }
        let mut targets = Vec::with_capacity(labels.len() * classes);
        for &label in labels {
            targets.extend(factors.iter().enumerate().map(|(class, factor)| {
                let own = if class == label {
                    1.0 - self.smoothing
                } else {
                    0.0
                };
                (factor * (own + others)) as f32
            }));
        }
        Ok(targets)
    }
}

#[cfg(test)]
mod tests {
    use dfdx::prelude::*;

    use super::*;
    use crate::ops::cross_entropy::try_cross_entropy;

    fn targets(smoothing: f64, weights: Option<Vec<f64>>) -> Targets {
        Targets { smoothing, weights }
    }

    #[test]
    fn without_weights_they_are_probabilities() {
        assert_eq!(targets(0.0, None).of(&[1], 2).unwrap(), [0.0, 1.0]);
        let smooth = targets(0.2, None).of(&[2, 0], 4).unwrap();
        assert_eq!(smooth, [0.05, 0.05, 0.85, 0.05, 0.85, 0.05, 0.05, 0.05]);
    }

    /// Loss and gradient of torch.nn.functional.cross_entropy(x, labels, weight, label_smoothing=...) of PyTorch 2.15.
    #[test]
    fn with_weights_the_loss_is_that_of_pytorch() {
        let dev = Cpu::default();
        let x = dev.tensor([[0.5f32, -1.0, 2.0], [1.5, 0.25, -0.75]]);
        let plain = [
            0.1502489, 0.0335251, -0.183774, -0.0402228, 0.0294052, 0.0108176,
        ];
        let smooth = [
            0.139644, 0.0131737, -0.1528177, -0.0033298, 0.018199, -0.0148692,
        ];
        for (smoothing, loss, gradient) in [(0.0, 0.2540772, plain), (0.1, 0.4110115, smooth)] {
            let weights = Some(vec![0.5, 2.0, 3.0]);
            let values = targets(smoothing, weights).of(&[2, 0], 3).unwrap();
            let target = dev.tensor_from_vec(values, (Const::<2>, Const::<3>));
            let found = try_cross_entropy(x.leaky_trace(), target).unwrap();
            assert!((found.array() - loss).abs() < 1e-6, "{}", found.array());
            let found = found.backward().get(&x).as_vec();
            for (found, expected) in found.iter().zip(gradient) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    #[test]
    fn images_of_classes_that_do_not_count_cost_nothing() {
        let none = targets(0.1, Some(vec![0.0, 1.0])).of(&[0, 0], 2).unwrap();
        assert_eq!(none, [0.0; 4]);
        let err = targets(0.0, Some(vec![1.0])).of(&[0], 2).unwrap_err();
        assert!(
            err.to_string()
                .contains("class weights: expected 2, found 1"),
            "{err}"
        );
    }

    #[test]
    fn bad_values_are_named() {
        for value in [-0.1, 1.2, f64::NAN] {
            let err = checked_smoothing(value).unwrap_err().to_string();
            assert!(
                err.starts_with(&format!("label_smoothing = {value}")),
                "{err}"
            );
            if value != 1.2 {
                let err = checked_weights(vec![1.0, value]).unwrap_err().to_string();
                assert!(
                    err.starts_with(&format!("class_weights = {value}")),
                    "{err}"
                );
            }
        }
        assert!(checked_weights(vec![0.0]).is_err() && checked_weights(vec![]).is_err());
        checked_smoothing(1.0).unwrap();
    }
}
