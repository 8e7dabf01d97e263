//! The loss of image classifiers.

use dfdx::losses::binary_cross_entropy_with_logits_loss;
use dfdx::nn::ModuleMut;
use dfdx::shapes::Const;
use dfdx::tensor::{Gradients, NoneTape, Trace};

use super::classifier::{ImageClassifier, Images, Logits};
use super::mixup::{mixed, Mixup};
use super::objective::{LossTensor, Objective, Place};
use super::targets::Targets;
use crate::backend::Backend;
use crate::bridge::{unneeded, upload};
use crate::data::{Batch, ImageShape};
use crate::error::{Error, Result};
use crate::ops::cross_entropy::try_cross_entropy;

/// The cross entropy of classes, or the binary cross entropy of several labels an image.
pub(super) struct Classification<
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
> {
    pub(super) targets: Targets,
    pub(super) mixup: Option<Mixup>,
}

/// The tensors of a batch, and whether its images have several labels.
pub(super) struct Labelled<
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
    D: Backend<f32>,
> {
    x: Images<C, H, W, D, NoneTape>,
    target: Logits<CLASSES, D, NoneTape>,
    multi_label: bool,
}

impl<const C: usize, const H: usize, const W: usize, const CLASSES: usize, M, D> Objective<M, D>
    for Classification<C, H, W, CLASSES>
where
    M: ImageClassifier<C, H, W, CLASSES, D>,
    D: Backend<f32>,
{
    type Input = Labelled<C, H, W, CLASSES, D>;

    fn input(&mut self, dev: &D, batch: &Batch, place: Place) -> Result<Self::Input> {
        let mut target = batch.targets(dev)?;
        if !self.targets.are_plain() && batch.is_multi_label() {
            let Targets { smoothing, weights } = &self.targets;
            let range = "left out for a multi-label data set";
            return Err(match weights {
                Some(weights) => {
                    Error::parameter("class_weights", format_args!("{weights:?}"), range)
                }
                None => Error::parameter("label_smoothing", smoothing, range),
            });
        }
        let weight = self.mixup.map(|mixup| mixup.weight(place));
        if weight.is_some() || !self.targets.are_plain() {
            let mut values = match batch.is_multi_label() {
                true => batch
                    .attributes()
                    .iter()
                    .map(|&has| f32::from(has))
                    .collect(),
                false => self.targets.of(batch.labels(), CLASSES)?,
            };
            if let Some(weight) = weight {
                values = mixed(&values, CLASSES, weight);
            }
            target = upload(dev, (batch.len(), Const), &values)?;
        }
        let x = match weight {
            Some(weight) => {
                batch.check_shape("Batch::image_tensor", ImageShape::new(C, H, W))?;
                let images = mixed(batch.images(), C * H * W, weight);
                upload(dev, (batch.len(), Const, Const, Const), &images)?
            }
            None => batch.image_tensor(dev)?,
        };
        Ok(Labelled {
            x,
            target,
            multi_label: batch.is_multi_label(),
        })
    }

    fn loss(
        &mut self,
        model: &mut M,
        input: Self::Input,
        grads: Gradients<f32, D>,
    ) -> Result<LossTensor<D>> {
        unneeded::add(&input.x);
        let logits =
            ModuleMut::try_forward_mut(model, input.x.traced(grads)).map_err(Into::into)?;
        match input.multi_label {
            true => Ok(binary_cross_entropy_with_logits_loss(logits, input.target)),
            false => try_cross_entropy(logits, input.target),
        }
    }
}
