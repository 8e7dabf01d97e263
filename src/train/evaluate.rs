//! How good a classifier is.

use dfdx::nn::Module;

use super::classifier::{ImageClassifier, Images};
use super::ConfusionMatrix;
use crate::backend::Backend;
use crate::data::BatchLoader;
use crate::distributed::Communicator;
use crate::error::{Error, Result};

/// A classifier's results on a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Images seen.
    pub images: usize,
    /// Decisions: one an image, or of a multi-label data set one a label and image.
    pub decisions: usize,
    /// Images whose label has the largest logit. NaN is never the largest; of equal logits the
    /// first is taken. Of a multi-label data set: labels that the image has with a logit above 0,
    /// and labels that it has not with another (but not NaN).
    pub correct: usize,
    /// Images whose label is among the five largest logits. 0 of a multi-label data set.
    pub correct_top5: usize,
    /// The mean cross entropy of the images, or of a multi-label data set the mean binary cross
    /// entropy of images and labels. 0 without images.
    pub loss: f64,
}

impl Evaluation {
    /// The share of the decisions that are correct: of a multi-label data set the mean accuracy over
    /// the labels. 0 without images.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.decisions.max(1) as f64
    }

    /// The share of the images whose label is among the five largest logits. 0 without images, and of a
    /// multi-label data set.
    pub fn top5_accuracy(&self) -> f64 {
        self.correct_top5 as f64 / self.decisions.max(1) as f64
    }
}

impl Evaluation {
    /// The results of all ranks together, of which these are one's.
    pub(super) fn of_all(self, communicator: &Communicator) -> Result<Self> {
        let mut sums = [
            self.images as f64,
            self.decisions as f64,
            self.correct as f64,
            self.correct_top5 as f64,
            self.loss * self.decisions as f64,
        ];
        if communicator.is_alone() {
            return Ok(self);
        }
        communicator.sum(&mut sums)?;
        let [images, decisions, correct, correct_top5, loss] = sums;
        Ok(Self {
            images: images as usize,
            decisions: decisions as usize,
            correct: correct as usize,
            correct_top5: correct_top5 as usize,
            loss: loss / decisions.max(1.0),
        })
    }
}

/// Classifies all images of `loader`, in evaluation mode.
///
/// # Errors
/// As [`Batch::image_tensor`](crate::data::Batch::image_tensor), those of the model, and an error if
/// the labels are not those of CLASSES classes.
pub fn evaluate<const C: usize, const H: usize, const W: usize, const CLASSES: usize, M, D>(
    model: &M,
    dev: &D,
    loader: &BatchLoader,
) -> Result<Evaluation>
where
    M: ImageClassifier<C, H, W, CLASSES, D>,
    D: Backend<f32>,
{
    evaluate_with(model, dev, loader, |_, _| {})
}

/// [`evaluate`], and which classes were taken for which. An image whose logits are all NaN is taken for
/// none.
///
/// # Errors
/// As [`evaluate`]; [`Error::Parameter`] for a multi-label data set.
pub fn evaluate_by_class<
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
    M,
    D,
>(
    model: &M,
    dev: &D,
    loader: &BatchLoader,
) -> Result<(Evaluation, ConfusionMatrix)>
where
    M: ImageClassifier<C, H, W, CLASSES, D>,
    D: Backend<f32>,
{
    let mut matrix = ConfusionMatrix::new(CLASSES);
    let done = evaluate_with(model, dev, loader, |label, predicted| {
        matrix.add(label, predicted);
    })?;
    if done.decisions > done.images {
        let range = "one class an image, not several labels";
        return Err(Error::parameter("data set", "multi-label", range));
    }
    Ok((done, matrix))
}

/// Tells `decided` each image's label and the class that it was taken for.
fn evaluate_with<const C: usize, const H: usize, const W: usize, const CLASSES: usize, M, D>(
    model: &M,
    dev: &D,
    loader: &BatchLoader,
    mut decided: impl FnMut(usize, usize),
) -> Result<Evaluation>
where
    M: ImageClassifier<C, H, W, CLASSES, D>,
    D: Backend<f32>,
{
    let mut done = Evaluation::default();
    let mut loss = 0.0;
    for batch in loader.epoch(0) {
        let batch = batch?;
        if batch.share() == 0.0 {
            continue;
        }
        let x: Images<C, H, W, D, _> = batch.image_tensor(dev)?;
        let logits = Module::try_forward(model, x).map_err(Into::<Error>::into)?;
        let logits = logits.as_vec();
        if batch.is_multi_label() {
            if batch.attributes().len() != logits.len() {
                return Err(Error::shape(
                    "evaluate",
                    "attributes of an image",
                    CLASSES,
                    batch.attributes().len() / batch.len().max(1),
                ));
            }
            for (&logit, &has) in logits.iter().zip(batch.attributes()) {
                loss += binary_cross_entropy(logit, has);
                done.correct += usize::from(if has { logit > 0.0 } else { logit <= 0.0 });
            }
            done.decisions += logits.len();
        }
        for (logits, &label) in logits.chunks(CLASSES).zip(batch.labels()) {
            let Some(&own) = logits.get(label) else {
                return Err(Error::parameter("label", label, "below CLASSES"));
            };
            loss += log_sum_exp(logits) - f64::from(own);
            let predicted = largest(logits);
            done.correct += usize::from(predicted == Some(label));
            done.correct_top5 += usize::from(rank(logits, label).is_some_and(|rank| rank < 5));
            if let Some(predicted) = predicted {
                decided(label, predicted);
            }
            done.decisions += 1;
        }
        done.images += batch.len();
    }
    done.loss = loss / done.decisions.max(1) as f64;
    Ok(done)
}

/// -log(sigmoid(x)) where the label holds, -log(1 - sigmoid(x)) where it does not
fn binary_cross_entropy(x: f32, holds: bool) -> f64 {
    let towards = f64::from(if holds { x } else { -x });
    // Neither exponential can overflow.
    (-towards).max(0.0) + (-towards.abs()).exp().ln_1p()
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

/// How many logits come before the one at `i`: larger ones, and equal ones of earlier classes. `None` for
/// NaN.
fn rank(x: &[f32], i: usize) -> Option<usize> {
    let own = *x.get(i).filter(|own| !own.is_nan())?;
    let before = |&(j, &v): &(usize, &f32)| v > own || (v == own && j < i);
    Some(x.iter().enumerate().filter(before).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_loss() {
        for x in [-3.0f32, -0.5, 0.0, 2.0] {
            let p = 1.0 / (1.0 + f64::from(-x).exp());
            assert!((binary_cross_entropy(x, true) + p.ln()).abs() < 1e-12);
            assert!((binary_cross_entropy(x, false) + (1.0 - p).ln()).abs() < 1e-12);
        }
        assert_eq!(binary_cross_entropy(-1000.0, true), 1000.0);
        assert_eq!(binary_cross_entropy(1000.0, true), 0.0);
        assert!(binary_cross_entropy(f32::NAN, true).is_nan());
    }

    #[test]
    fn largest_logit_and_loss() {
        assert_eq!(largest(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(largest(&[f32::NAN, -1.0]), Some(1));
        assert_eq!(largest(&[f32::NAN]), None);
        let x = [1.0, f32::NAN, 3.0, 3.0, -1.0];
        assert_eq!(
            [0, 1, 2, 3, 4].map(|i| rank(&x, i)),
            [Some(2), None, Some(0), Some(1), Some(3)]
        );
        assert_eq!(rank(&x, 9), None);
        assert!((log_sum_exp(&[0.0, 0.0]) - 2f64.ln()).abs() < 1e-12);
        assert_eq!(log_sum_exp(&[1000.0, -1000.0]), 1000.0);
        assert!(log_sum_exp(&[f32::NAN, 1.0]).is_nan());
    }
}
