//! How good a classifier is.

use dfdx::nn::Module;

use super::classifier::{ImageClassifier, Images};
use crate::backend::Backend;
use crate::data::BatchLoader;
use crate::error::{Error, Result};
use crate::optim::AdamKernel;

/// A classifier's results on a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Images seen.
    pub images: usize,
    /// Images whose label has the largest logit. NaN is never the largest; of equal logits the
    /// first is taken.
    pub correct: usize,
    /// The mean cross entropy of the images. 0 without images.
    pub loss: f64,
}

impl Evaluation {
    /// The share of the images that are classified correctly. 0 without images.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }
}

/// Classifies all images of `loader`, in evaluation mode.
///
/// # Errors
/// As [`Batch::image_tensor`](crate::data::Batch::image_tensor), and those of the model.
pub fn evaluate<const C: usize, const H: usize, const W: usize, const CLASSES: usize, M, D>(
    model: &M,
    dev: &D,
    loader: &BatchLoader,
) -> Result<Evaluation>
where
    M: ImageClassifier<C, H, W, CLASSES, D>,
    D: Backend<f32> + AdamKernel<f32>,
{
    let mut done = Evaluation::default();
    let mut loss = 0.0;
    for batch in loader.epoch(0) {
        let x: Images<C, H, W, D, _> = batch.image_tensor(dev)?;
        let logits = Module::try_forward(model, x).map_err(Into::<Error>::into)?;
        for (logits, &label) in logits.as_vec().chunks(CLASSES).zip(batch.labels()) {
            let Some(&own) = logits.get(label) else {
                return Err(Error::parameter("label", label, "below CLASSES"));
            };
            loss += log_sum_exp(logits) - f64::from(own);
            done.correct += usize::from(largest(logits) == Some(label));
        }
        done.images += batch.len();
    }
    done.loss = loss / done.images.max(1) as f64;
    Ok(done)
}

/// log(sum(exp(x)))
fn log_sum_exp(x: &[f32]) -> f64 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = x.iter().map(|&v| f64::from(v - max).exp()).sum();
    f64::from(max) + sum.ln()
}

fn largest(x: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, &v) in x.iter().enumerate() {
        if !v.is_nan() && best.is_none_or(|best| v > x[best]) {
            best = Some(i);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_logit_and_loss() {
        assert_eq!(largest(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(largest(&[f32::NAN, -1.0]), Some(1));
        assert_eq!(largest(&[f32::NAN]), None);
        assert!((log_sum_exp(&[0.0, 0.0]) - 2f64.ln()).abs() < 1e-12);
        assert_eq!(log_sum_exp(&[1000.0, -1000.0]), 1000.0);
        assert!(log_sum_exp(&[f32::NAN, 1.0]).is_nan());
    }
}
