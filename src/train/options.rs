//! How a trainer trains, beside its model and optimizer.

use dfdx::nn::TensorCollection;

use super::mixup::Mixup;
use super::targets::{checked_smoothing, checked_weights};
use super::Trainer;
use crate::backend::Backend;
use crate::distributed::{check_same_weights, Communicator, GradientExchange};
use crate::error::{Error, Result};
use crate::nn::{SchedulePlan, VisitLayers};
use crate::optim::{Ema, FusedOptimizer, LrSchedule, Optimizer, ParameterGroups, UpdateRule};

impl<M, D, R> Trainer<M, D, FusedOptimizer<R, M, f32, D>>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
    R: UpdateRule,
{
    /// The same with parameters that are trained otherwise than the others, or not at all.
    ///
    /// # Errors
    /// As [`FusedOptimizer::with_groups`].
    pub fn with_parameter_groups(mut self, groups: &ParameterGroups) -> Result<Self> {
        self.optimizer = self.optimizer.with_groups(&self.model, groups)?;
        Ok(self)
    }
}

impl<M, D, O> Trainer<M, D, O>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
    O: Optimizer<M, f32, D>,
{
    /// The same with gradients of a norm, over all parameters together, of at most `max_norm`
    /// (`torch.nn.utils.clip_grad_norm_`). This costs one pass that reads the gradients; the optimizer's own
    /// pass multiplies them. Reports have the norm before it.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `max_norm` is finite and greater than 0.
    pub fn with_clip_norm(mut self, max_norm: f64) -> Result<Self> {
        self.clip = self.clip.with_norm(max_norm)?;
        Ok(self)
    }

    /// The same with every element of the gradients in -limit..=limit
    /// (`torch.nn.utils.clip_grad_value_`), before a norm is clipped.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `limit` is finite and greater than 0.
    pub fn with_clip_value(mut self, limit: f64) -> Result<Self> {
        self.clip = self.clip.with_value(limit)?;
        Ok(self)
    }

    /// The same with the optimizer's step after every `batches` batches (and after an epoch's last), on
    /// the mean of their gradients: as if they were one batch, but for batch norms. A learning rate
    /// schedule then counts these steps, a schedule of drop rates counts batches.
    /// [`train_part`](Self::train_part) pauses after such steps only.
    ///
    /// # Errors
    /// [`Error::Parameter`] for 0 batches.
    pub fn with_accumulation(mut self, batches: usize) -> Result<Self> {
        if batches == 0 {
            return Err(Error::parameter("accumulation", batches, "at least 1"));
        }
        self.accumulation = batches;
        Ok(self)
    }

    /// The same as one of several ranks that train together: each has its share of every batch, and their
    /// gradients are added up, as [`distributed`](crate::distributed) says. All ranks call the same methods
    /// in the same order, and have the same results; one of them saves.
    ///
    /// # Errors
    /// [`Error::Distributed`] if the ranks' weights are not the same, or if a rank is lost.
    pub fn with_communicator(mut self, communicator: &Communicator) -> Result<Self> {
        self.communicator = communicator.clone();
        self.exchange = match communicator.is_alone() {
            true => None,
            false => Some(GradientExchange::new(communicator)),
        };
        if self.exchange.is_some() {
            let check = || check_same_weights(communicator, &self.model, "before the first step");
            communicator.together(check)?;
        }
        Ok(self)
    }

    /// The ranks that train together.
    pub fn communicator(&self) -> &Communicator {
        &self.communicator
    }

    /// The same with targets of 1 - smoothing + smoothing / CLASSES for an image's class and smoothing /
    /// CLASSES for the others, in the training of classifiers (`label_smoothing` of PyTorch's
    /// `CrossEntropyLoss`). [`evaluate`](Self::evaluate)'s loss is without it.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `smoothing` is in 0..=1; in training, for a multi-label data set.
    pub fn with_label_smoothing(mut self, smoothing: f64) -> Result<Self> {
        self.targets.smoothing = checked_smoothing(smoothing)?;
        Ok(self)
    }

    /// The same with images that count by their class, in the training of classifiers: the loss of a batch is the mean
    /// of its images' weighted by `weights`, a number for each class (`weight` of PyTorch's `CrossEntropyLoss`).
    /// [`ImageDataset::balancing_weights`](crate::data::ImageDataset::balancing_weights) has all classes count the same.
    /// [`evaluate`](Self::evaluate)'s loss is without it. In a distributed training the mean is each rank's own.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a weight that is negative or not finite, and if none is more than 0; in training, for a
    /// multi-label data set, and [`Error::Shape`] for another number of classes.
    pub fn with_class_weights(mut self, weights: Vec<f64>) -> Result<Self> {
        self.targets.weights = Some(checked_weights(weights)?);
        Ok(self)
    }

    /// The same with images of which each is mixed with another one of its batch, and so are their targets, in the
    /// training of classifiers (mixup, [arXiv 1710.09412](https://arxiv.org/abs/1710.09412)): w of the one and 1 - w
    /// of the other, w drawn for each batch from Beta(`alpha`, `alpha`), 0.2 say. The loss is then w of the one
    /// label's and 1 - w of the other's. In a distributed training each rank mixes its own share of a batch.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `alpha` is finite and greater than 0.
    pub fn with_mixup(mut self, alpha: f64, seed: u64) -> Result<Self> {
        self.mixup = Some(Mixup::new(alpha, seed)?);
        Ok(self)
    }

    /// The same with a moving average of the weights as they are now, updated after every step of the
    /// optimizer. [`evaluate`](Self::evaluate) uses it, and checkpoints have it.
    ///
    /// # Errors
    /// As [`Ema::new`].
    pub fn with_ema(mut self, decay: f64) -> Result<Self>
    where
        M: Clone,
    {
        self.ema = Some(Ema::new(&self.model, decay)?);
        Ok(self)
    }

    /// The moving average of the weights, if there is one.
    pub fn ema(&self) -> Option<&Ema<M>> {
        self.ema.as_ref()
    }

    /// The model to use: the moving average, or without one the model itself.
    pub fn averaged_model(&self) -> &M {
        self.ema.as_ref().map_or(&self.model, |ema| &ema.model)
    }

    /// The same with drop rates that [`train_epoch`](Self::train_epoch) sets itself: a
    /// [`Schedule`](crate::sparsity::Schedule) for all sparse layers, or a [`SchedulePlan`].
    ///
    /// # Errors
    /// [`Error::UnmatchedLayers`] if a part of the plan holds none of the model's sparse layers.
    pub fn with_schedule(mut self, schedule: impl Into<SchedulePlan>) -> Result<Self>
    where
        M: VisitLayers,
    {
        let schedule = schedule.into();
        schedule.resolve_for(&mut self.model)?;
        self.schedule = Some(schedule);
        Ok(self)
    }

    /// The same with a learning rate that is changed before every step: what the optimizer has now, times
    /// the schedule's factor.
    pub fn with_lr_schedule(mut self, schedule: LrSchedule) -> Self {
        self.lr_schedule = Some((self.optimizer.lr(), schedule));
        self
    }
}
