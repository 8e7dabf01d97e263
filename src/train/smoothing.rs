//! Label smoothing.

use crate::error::{Error, Result};

/// A smoothing in its range.
///
/// # Errors
/// [`Error::Parameter`] unless it is in 0..=1.
pub(super) fn checked(smoothing: f64) -> Result<f64> {
    match (0.0..=1.0).contains(&smoothing) {
        true => Ok(smoothing),
        false => Err(Error::parameter("label_smoothing", smoothing, "in 0..=1")),
    }
}

/// The targets of labels among `classes`: 1 - smoothing + smoothing / classes at the label, smoothing /
/// classes elsewhere. Labels are below `classes`.
pub(super) fn targets(labels: &[usize], classes: usize, smoothing: f64) -> Vec<f32> {
    let others = smoothing / classes.max(1) as f64;
    let mut targets = vec![others as f32; labels.len() * classes];
    for (row, &label) in targets.chunks_mut(classes.max(1)).zip(labels) {
        if let Some(own) = row.get_mut(label) {
            *own = (1.0 - smoothing + others) as f32;
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_probabilities() {
        assert_eq!(targets(&[1], 2, 0.0), [0.0, 1.0]);
        let smooth = targets(&[2, 0], 4, 0.2);
        assert_eq!(smooth, [0.05, 0.05, 0.85, 0.05, 0.85, 0.05, 0.05, 0.05]);
        for value in [-0.1, 1.2, f64::NAN] {
            let err = checked(value).unwrap_err().to_string();
            assert!(
                err.starts_with(&format!("label_smoothing = {value}")),
                "{err}"
            );
        }
        checked(1.0).unwrap();
    }
}
