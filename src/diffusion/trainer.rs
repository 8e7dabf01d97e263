//! A denoiser in training.

use std::path::Path;

use dfdx::nn::TensorCollection;

use super::model::{ClassDenoiser, Classes, Denoiser, TrainableClassDenoiser, TrainableDenoiser};
use super::objective::{class_rows, found_on, labels, ClassDenoising, Denoising, Predict};
use super::parameterization::Loss;
use super::process::Diffusion;
use crate::backend::Backend;
use crate::checkpoint::Metadata;
use crate::data::BatchLoader;
use crate::distributed::Communicator;
use crate::error::{Error, Result};
use crate::nn::{BackwardCost, ImageSize, ModelCost, SchedulePlan, VisitLayers};
use crate::optim::{Adam, AdamConfig, Ema, LrSchedule, Optimizer};
use crate::train::{whole_epoch, EpochReport, Observer, Trainer};

/// One of the two that did best in arXiv 2207.12598 (Table 1).
const CLASS_DROPOUT: f64 = 0.1;

/// A denoiser, its optimizer, the number of epochs done, the diffusion that it learns to reverse,
/// and on request the moving average of its weights.
///
/// Each step noises a batch's images to timesteps drawn uniformly and lowers the distance of the
/// network's output from its [target](Diffusion::target) (Algorithm 1 of
/// [arXiv 2006.11239](https://arxiv.org/abs/2006.11239)). Timesteps and noise follow from the seed,
/// the epoch and the batch's number and from nothing else. The images should have values in -1..=1:
/// [`Normalization::symmetric`](crate::data::Normalization::symmetric). Their labels are ignored, but by
/// [`train_class_epoch`](Self::train_class_epoch).
///
/// [`save`](Self::save) and [`resume`](Self::resume) let a run go on bit for bit as if it had not
/// stopped. Drop rates and dropout are as in [`Trainer::train_epoch`].
///
/// ```
/// use ssprop::data::{BatchLoader, Normalization};
/// use ssprop::diffusion::{BetaSchedule, Diffusion, DiffusionTrainer, TrainableDenoiser};
/// use ssprop::prelude::*;
///
/// /// Trains any denoiser of images of 1x32x32 for `epochs`.
/// fn train<M, D>(dev: &D, model: M, data: &ssprop::data::ImageDataset, epochs: u64) -> ssprop::Result<M>
/// where
///     M: TrainableDenoiser<1, 32, 32, D> + Clone,
///     D: ssprop::Backend<f32>,
/// {
///     let loader = BatchLoader::new(data, 64)?
///         .normalize(Normalization::symmetric(1))?
///         .fit_to(ssprop::data::ImageShape::new(1, 32, 32))?
///         .shuffle(0);
///     let diffusion = Diffusion::new(BetaSchedule::Cosine, 200)?;
///     let mut trainer = DiffusionTrainer::new(model, AdamConfig::adamw(), diffusion, 0)?
///         .with_schedule(Schedule::alternating(DropRate::new(0.8)?))?
///         .with_ema(0.999)?;
///     for _ in 0..epochs {
///         trainer.train_epoch::<1, 32, 32>(dev, &loader, &mut ())?;
///     }
///     Ok(trainer.averaged_model().clone())
/// }
/// ```
#[derive(Debug)]
pub struct DiffusionTrainer<M, D: Backend<f32>, O = Adam<M, f32, D>> {
    trainer: Trainer<M, D, O>,
    diffusion: Diffusion,
    loss: Loss,
    seed: u64,
    class_dropout: f64,
}

impl<M, D> DiffusionTrainer<M, D>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
{
    /// A model before its first epoch, with [`Adam`] and the L2 loss. `seed` is that of timesteps and
    /// noise.
    ///
    /// # Errors
    /// As [`Adam::new`].
    pub fn new(model: M, config: AdamConfig, diffusion: Diffusion, seed: u64) -> Result<Self> {
        Ok(Self::with_trainer(
            Trainer::new(model, config)?,
            diffusion,
            seed,
        ))
    }
}

impl<M, D, O> DiffusionTrainer<M, D, O>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
    O: Optimizer<M, f32, D>,
{
    /// What [`Trainer`]'s own methods have set up (another optimizer, clipping, accumulation, ...), with
    /// the L2 loss.
    pub fn with_trainer(trainer: Trainer<M, D, O>, diffusion: Diffusion, seed: u64) -> Self {
        Self {
            trainer,
            diffusion,
            loss: Loss::default(),
            seed,
            class_dropout: CLASS_DROPOUT,
        }
    }

    /// The same with another loss.
    pub fn with_loss(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }

    /// The same with another probability, 0.1 by default, that [`train_class_epoch`](Self::train_class_epoch)
    /// does not tell the network an image's class. Without such images it learns no prediction for images of
    /// no class, which [`Guided`](super::Guided) sampling compares with.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless it is in 0..=1.
    pub fn with_class_dropout(self, class_dropout: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&class_dropout) {
            return Err(Error::parameter("class_dropout", class_dropout, "in 0..=1"));
        }
        Ok(Self {
            class_dropout,
            ..self
        })
    }

    /// The same with drop rates that [`train_epoch`](Self::train_epoch) sets itself.
    ///
    /// # Errors
    /// As [`Trainer::with_schedule`].
    pub fn with_schedule(mut self, schedule: impl Into<SchedulePlan>) -> Result<Self>
    where
        M: VisitLayers,
    {
        self.trainer = self.trainer.with_schedule(schedule)?;
        Ok(self)
    }

    /// The same as one of several ranks that train together.
    ///
    /// # Errors
    /// As [`Trainer::with_communicator`].
    pub fn with_communicator(mut self, communicator: &Communicator) -> Result<Self> {
        self.trainer = self.trainer.with_communicator(communicator)?;
        Ok(self)
    }

    /// The ranks that train together.
    pub fn communicator(&self) -> &Communicator {
        self.trainer.communicator()
    }

    /// The same with a learning rate that is changed before every step, as in
    /// [`Trainer::with_lr_schedule`].
    pub fn with_lr_schedule(mut self, schedule: LrSchedule) -> Self {
        self.trainer = self.trainer.with_lr_schedule(schedule);
        self
    }

    /// The same with a moving average of the weights as they are now, updated after every step.
    ///
    /// # Errors
    /// As [`Ema::new`].
    pub fn with_ema(mut self, decay: f64) -> Result<Self>
    where
        M: Clone,
    {
        self.trainer = self.trainer.with_ema(decay)?;
        Ok(self)
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.trainer.model
    }

    /// The model, to set its drop rates or its dropout.
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.trainer.model
    }

    /// The model to draw samples with: the moving average, or without one the model itself.
    pub fn averaged_model(&self) -> &M {
        self.trainer.averaged_model()
    }

    /// The moving average of the weights, if there is one.
    pub fn ema(&self) -> Option<&Ema<M>> {
        self.trainer.ema()
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &O {
        &self.trainer.optimizer
    }

    /// The optimizer, to set its learning rate.
    pub fn optimizer_mut(&mut self) -> &mut O {
        &mut self.trainer.optimizer
    }

    /// The diffusion.
    pub fn diffusion(&self) -> &Diffusion {
        &self.diffusion
    }

    /// The loss.
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// The schedule of the drop rates; `None` if the caller sets them.
    pub fn schedule(&self) -> Option<&SchedulePlan> {
        self.trainer.schedule()
    }

    /// As [`Trainer::backward_cost`].
    ///
    /// # Errors
    /// As there.
    pub fn backward_cost(&mut self, size: ImageSize) -> Result<ModelCost>
    where
        M: VisitLayers + BackwardCost,
    {
        self.trainer.backward_cost(size)
    }

    /// The number of epochs done, which is the number of the next one.
    pub fn epoch(&self) -> u64 {
        self.trainer.epoch()
    }

    /// The batches done of an epoch that was [paused](Self::train_part); 0 between epochs.
    pub fn batches_done(&self) -> usize {
        self.trainer.batches_done()
    }

    /// One pass over the batches of the next epoch, `loader.epoch(self.epoch())`. Drop rates,
    /// dropout and reports are as in [`Trainer::train_epoch`].
    ///
    /// # Errors
    /// [`Error::Diverged`](crate::Error::Diverged) for the first batch whose loss or gradient is
    /// infinite or NaN; as [`Batch::image_tensor`](crate::data::Batch::image_tensor) if the data do
    /// not fit the model; those of the model and the optimizer. The epoch then counts as not done,
    /// though the batches before have changed the model.
    pub fn train_epoch<const C: usize, const H: usize, const W: usize>(
        &mut self,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> Result<EpochReport>
    where
        M: TrainableDenoiser<C, H, W, D>,
    {
        whole_epoch(observer, |observer| {
            self.train_part::<C, H, W>(dev, loader, observer)
        })
    }

    /// [`train_epoch`](Self::train_epoch) up to where the observer [pauses](Observer::pause) it: then
    /// `None`, and the next call goes on from there, as in [`Trainer::train_part`].
    ///
    /// # Errors
    /// As [`Trainer::train_part`].
    pub fn train_part<const C: usize, const H: usize, const W: usize>(
        &mut self,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> Result<Option<EpochReport>>
    where
        M: TrainableDenoiser<C, H, W, D>,
    {
        let mut objective = Denoising::<C, H, W> {
            diffusion: &self.diffusion,
            loss: self.loss,
            seed: self.seed,
        };
        self.trainer
            .train_part_on(&mut objective, dev, loader, observer)
    }

    /// [`train_epoch`](Self::train_epoch) of a network that is told the images' classes, their labels, but
    /// [for some](Self::with_class_dropout) (Algorithm 1 of [arXiv
    /// 2207.12598](https://arxiv.org/abs/2207.12598)). Timesteps and noise are those of `train_epoch`.
    ///
    /// # Errors
    /// As there; [`DataError::ImageLabel`](crate::error::DataError::ImageLabel) for a label that is not
    /// below CLASSES, [`Error::Parameter`] for a multi-label data set.
    pub fn train_class_epoch<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
        &mut self,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> Result<EpochReport>
    where
        M: TrainableClassDenoiser<C, H, W, CLASSES, D>,
    {
        whole_epoch(observer, |observer| {
            self.train_class_part::<C, H, W, CLASSES>(dev, loader, observer)
        })
    }

    /// [`train_part`](Self::train_part) of [`train_class_epoch`](Self::train_class_epoch).
    ///
    /// # Errors
    /// As there.
    pub fn train_class_part<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
        &mut self,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> Result<Option<EpochReport>>
    where
        M: TrainableClassDenoiser<C, H, W, CLASSES, D>,
    {
        let mut objective = ClassDenoising::<C, H, W, CLASSES> {
            denoising: Denoising {
                diffusion: &self.diffusion,
                loss: self.loss,
                seed: self.seed,
            },
            dropout: self.class_dropout,
        };
        self.trainer
            .train_part_on(&mut objective, dev, loader, observer)
    }

    /// The mean loss of [`averaged_model`](Self::averaged_model) on the images of `loader`, by
    /// [`evaluate`](super::evaluate) with the trainer's seed. Ranks share the images out, and all have the
    /// result.
    ///
    /// # Errors
    /// As [`evaluate`](super::evaluate); [`Error::Distributed`](crate::Error::Distributed) if a rank is lost.
    pub fn evaluate<const C: usize, const H: usize, const W: usize>(
        &self,
        dev: &D,
        loader: &BatchLoader,
    ) -> Result<f64>
    where
        M: Denoiser<C, H, W, D>,
    {
        let model = self.averaged_model();
        self.evaluate_by::<C, H, W>(dev, loader, &mut |_, x_t, t| {
            model.try_forward((x_t, t)).map_err(Into::into)
        })
    }

    /// [`evaluate`](Self::evaluate) of a network that is told each image's class, its label.
    ///
    /// # Errors
    /// As there, and as [`train_class_epoch`](Self::train_class_epoch) for labels that are no class.
    pub fn evaluate_classes<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
        &self,
        dev: &D,
        loader: &BatchLoader,
    ) -> Result<f64>
    where
        M: ClassDenoiser<C, H, W, CLASSES, D>,
    {
        let model = self.averaged_model();
        self.evaluate_by::<C, H, W>(dev, loader, &mut |batch, x_t, t| {
            let labels = labels::<CLASSES>(batch)?.iter();
            let classes: Classes<CLASSES, D> = class_rows(dev, labels.map(|&label| Some(label)))?;
            model.try_forward((x_t, t, classes)).map_err(Into::into)
        })
    }

    fn evaluate_by<const C: usize, const H: usize, const W: usize>(
        &self,
        dev: &D,
        loader: &BatchLoader,
        predict: &mut Predict<'_, C, H, W, D>,
    ) -> Result<f64> {
        let ranks = self.trainer.communicator();
        ranks.together(|| {
            let loader = loader.clone().share_of(ranks.rank(), ranks.size())?;
            let (diffusion, loss) = (&self.diffusion, self.loss);
            let found = found_on(diffusion, loss, dev, &loader, self.seed, predict)?;
            let mut sums = [found.sum, found.images as f64];
            ranks.sum(&mut sums)?;
            Ok(sums[0] / sums[1].max(1.0))
        })
    }

    /// Saves the model, the optimizer's state, the moving average if there is one and the number of
    /// epochs done, with `metadata`, whose `epoch` and `ema_updates` are replaced.
    ///
    /// What else decides how training goes on is the caller's, as in [`Trainer::save`]; here also
    /// the diffusion, the loss, the seed and the average's decay. The model alone can be read by
    /// [`checkpoint::load`](crate::checkpoint::load), the average by
    /// [`checkpoint::load_average`](crate::checkpoint::load_average).
    ///
    /// # Errors
    /// As [`save_training`](crate::checkpoint::save_training).
    pub fn save(&self, path: impl AsRef<Path>, metadata: &Metadata) -> Result<()> {
        self.trainer.save(path, metadata)
    }

    /// Goes back to what [`save`](Self::save) saved, and returns the metadata. A trainer without a
    /// moving average leaves one in the file aside.
    ///
    /// # Errors
    /// As [`Trainer::resume`].
    pub fn resume(&mut self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.trainer.resume(path)
    }
}
