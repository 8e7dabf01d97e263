//! What a training step minimises.

use dfdx::losses::{binary_cross_entropy_with_logits_loss, cross_entropy_with_logits_loss};
use dfdx::nn::ModuleMut;
use dfdx::shapes::Rank0;
use dfdx::tensor::{Gradients, OwnedTape, Tensor, Trace};

use super::classifier::{ImageClassifier, Images, Logits};
use crate::backend::Backend;
use crate::data::Batch;
use crate::error::Result;

/// A batch's place in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The epoch, counted from 0.
    pub(crate) epoch: u64,
    /// The batch in the epoch, counted from 0.
    pub(crate) batch: usize,
}

/// A loss with the tape that leads to it.
pub(crate) type LossTensor<D> = Tensor<Rank0, f32, D, OwnedTape<f32, D>>;

/// A loss of models `M`, in the parts that are timed apart.
pub(crate) trait Objective<M, D: Backend<f32>> {
    /// The tensors of a batch.
    type Input;

    /// Makes a batch's tensors.
    fn input(&mut self, dev: &D, batch: &Batch, place: Place) -> Result<Self::Input>;

    /// The model's mean loss.
    fn loss(
        &mut self,
        model: &mut M,
        input: Self::Input,
        grads: Gradients<f32, D>,
    ) -> Result<LossTensor<D>>;

    /// Is told of the optimizer's step.
    fn updated(&mut self, model: &M) -> Result<()> {
        let _ = model;
        Ok(())
    }
}

/// The cross entropy of classes, or the binary cross entropy of several labels an image.
pub(super) struct Classification<
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
>;

/// The tensors of a batch, and whether its images have several labels.
pub(super) struct Labelled<
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
    D: Backend<f32>,
> {
    x: Images<C, H, W, D, dfdx::tensor::NoneTape>,
    target: Logits<CLASSES, D, dfdx::tensor::NoneTape>,
    multi_label: bool,
}

impl<const C: usize, const H: usize, const W: usize, const CLASSES: usize, M, D> Objective<M, D>
    for Classification<C, H, W, CLASSES>
where
    M: ImageClassifier<C, H, W, CLASSES, D>,
    D: Backend<f32>,
{
    type Input = Labelled<C, H, W, CLASSES, D>;

    fn input(&mut self, dev: &D, batch: &Batch, _: Place) -> Result<Self::Input> {
        Ok(Labelled {
            x: batch.image_tensor(dev)?,
            target: batch.targets(dev)?,
            multi_label: batch.is_multi_label(),
        })
    }

    fn loss(
        &mut self,
        model: &mut M,
        input: Self::Input,
        grads: Gradients<f32, D>,
    ) -> Result<LossTensor<D>> {
        let logits =
            ModuleMut::try_forward_mut(model, input.x.traced(grads)).map_err(Into::into)?;
        Ok(if input.multi_label {
            binary_cross_entropy_with_logits_loss(logits, input.target)
        } else {
            cross_entropy_with_logits_loss(logits, input.target)
        })
    }
}
