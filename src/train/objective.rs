//! What a training step minimises.

use dfdx::shapes::Rank0;
use dfdx::tensor::{Gradients, OwnedTape, Tensor};

use crate::backend::Backend;
use crate::data::Batch;
use crate::error::Result;

/// A batch's place in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The batch in the epoch, counted from 0.
    pub batch: usize,
}

/// A loss with the tape that leads to it.
pub type LossTensor<D> = Tensor<Rank0, f32, D, OwnedTape<f32, D>>;

/// Named numbers of a batch, each the mean over its images: `[("test_loss", 0.3)]`.
pub type Metrics = Vec<(&'static str, f64)>;

/// A loss of models `M`, in the parts that are timed apart, and what is measured of them: for
/// [`Trainer::train_epoch_on`](super::Trainer::train_epoch_on) and
/// [`Trainer::evaluate_on`](super::Trainer::evaluate_on).
///
/// With a [communicator](super::Trainer::with_communicator) a batch is this rank's share of a whole one, and
/// the loss the mean over that. What is drawn at random for each image is that of one process if it goes by
/// [`Batch::first_place`] and [`Batch::whole_len`].
///
/// What a target is, the objective knows: the labels of the batch, the images themselves, or something
/// of its own by the images' places in the data set ([`Batch::indices`]).
///
/// ```
/// use ssprop::data::{Batch, BatchLoader, ImageDataset, ImageShape};
/// use ssprop::prelude::*;
/// use ssprop::train::{LossTensor, Metrics, Objective, Place};
///
/// type Net = (SparseConv2D<1, 8, 3, 1, 1>, ReLU, GlobalAvgPool, Linear<8, 1>);
/// type Model = <Net as BuildOnDevice<Cpu, f32>>::Built;
/// type Images = Tensor<(usize, Const<1>, Const<6>, Const<6>), f32, Cpu>;
///
/// /// How bright each image is, by its place in the data set.
/// struct Brightness(Vec<f32>);
///
/// impl Objective<Model, Cpu> for Brightness {
///     type Input = (Images, Tensor<(usize, Const<1>), f32, Cpu>);
///
///     fn input(&mut self, dev: &Cpu, batch: &Batch, _: Place) -> ssprop::Result<Self::Input> {
///         let targets: Vec<f32> = batch.indices().iter().map(|&i| self.0[i]).collect();
///         Ok((batch.image_tensor(dev)?, dev.tensor_from_vec(targets, (batch.len(), Const))))
///     }
///
///     fn loss(
///         &mut self,
///         model: &mut Model,
///         (x, target): Self::Input,
///         grads: Gradients<f32, Cpu>,
///     ) -> ssprop::Result<LossTensor<Cpu>> {
///         Ok(mse_loss(model.try_forward_mut(x.traced(grads))?, target))
///     }
///
///     fn metrics(&mut self, model: &Model, (x, target): Self::Input) -> ssprop::Result<Metrics> {
///         let error = mse_loss(model.try_forward(x)?, target);
///         Ok(vec![("test_loss", error.array().into())])
///     }
/// }
///
/// let brightness: Vec<f32> = (0..16).map(|i| i as f32 / 16.0).collect();
/// let pixels = (0..16 * 36).map(|i| (i / 36 * 16) as u8).collect();
/// let data = ImageDataset::new(pixels, vec![0; 16], ImageShape::new(1, 6, 6), 1)?;
/// let loader = BatchLoader::new(&data, 4)?.shuffle(0);
/// let dev = Cpu::seed_from_u64(0);
/// let config = AdamConfig { lr: 0.02, ..AdamConfig::adam() };
/// let mut trainer = Trainer::new(dev.build_module::<Net, f32>(), config)?;
/// let mut objective = Brightness(brightness);
/// for _ in 0..20 {
///     trainer.train_epoch_on(&mut objective, &dev, &loader, &mut ())?;
/// }
/// let found = trainer.evaluate_on(&mut objective, &dev, &loader)?;
/// assert!(found[0].0 == "test_loss" && found[0].1 < 0.02, "{found:?}");
/// # Ok::<(), ssprop::Error>(())
/// ```
pub trait Objective<M, D: Backend<f32>> {
    /// The tensors of a batch: what the model takes, and its target.
    type Input;

    /// Makes a batch's tensors. In evaluation the place is that of epoch 0.
    ///
    /// # Errors
    /// For a batch that does not fit the model.
    fn input(&mut self, dev: &D, batch: &Batch, place: Place) -> Result<Self::Input>;

    /// The model's mean loss over the batch, with the tape that begins with `grads`.
    ///
    /// # Errors
    /// Those of the model.
    fn loss(
        &mut self,
        model: &mut M,
        input: Self::Input,
        grads: Gradients<f32, D>,
    ) -> Result<LossTensor<D>>;

    /// Whether the loss reads parameters directly (a penalty on their size, say), not only through this crate's
    /// layers. Ranks then exchange gradients when the backward pass is done, whole; without it some
    /// are under way before the penalty's part is added.
    fn uses_parameters(&self) -> bool {
        false
    }

    /// What there is to know of the model on a batch, in evaluation mode; always the same names.
    ///
    /// # Errors
    /// Those of the model.
    fn metrics(&mut self, model: &M, input: Self::Input) -> Result<Metrics> {
        let _ = (model, input);
        Ok(Metrics::new())
    }
}
