//! A model in training.

use std::collections::HashSet;
use std::sync::Arc;

use dfdx::nn::TensorCollection;
use dfdx::optim::UnusedTensors;
use dfdx::tensor::Gradients;

use super::classifier::ImageClassifier;
use super::confusion::ConfusionMatrix;
use super::evaluate::{evaluate, evaluate_by_class, Evaluation};
use super::mixup::Mixup;
use super::objective::{Metrics, Objective, Place};
use super::report::EpochReport;
use super::targets::Targets;
use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, Part};
use crate::data::BatchLoader;
use crate::distributed::{Communicator, GradientExchange};
use crate::error::Result;
use crate::nn::{BackwardCost, ImageSize, ModelCost, SchedulePlan, VisitLayers};
use crate::optim::{Adam, AdamConfig, Clip, Ema, LrSchedule, Optimizer};

/// A model, its optimizer ([`Adam`] unless told otherwise), the number of epochs done, and the schedule of
/// the drop rates, if it is the trainer that sets them.
///
/// ```
/// use ssprop::prelude::*;
///
/// type Net = (SparseConv2D<1, 8, 3, 1, 1>, ReLU, GlobalAvgPool, Linear<8, 2>);
/// let model = Cpu::default().build_module::<Net, f32>();
/// let config = SgdConfig { lr: 0.1, momentum: 0.9, weight_decay: 5e-4, ..Default::default() };
/// let sgd = Sgd::new(&model, config)?;
/// let trainer = Trainer::with_optimizer(model, sgd)
///     .with_parameter_groups(&ParameterGroups::new().without_decay_of_norms_and_biases())?
///     .with_lr_schedule(LrSchedule::cosine(90)?)
///     .with_clip_norm(1.0)?
///     .with_accumulation(4)?
///     .with_label_smoothing(0.1)?
///     .with_ema(0.999)?;
/// # let _ = trainer;
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Debug)]
pub struct Trainer<M, D: Backend<f32>, O = Adam<M, f32, D>> {
    /// The model.
    pub model: M,
    /// Its optimizer.
    pub optimizer: O,
    pub(super) epoch: u64,
    pub(super) schedule: Option<SchedulePlan>,
    /// The learning rate at first, and its factor.
    pub(super) lr_schedule: Option<(f64, LrSchedule)>,
    pub(super) clip: Clip,
    pub(super) targets: Targets,
    pub(super) mixup: Option<Mixup>,
    /// The parameters that are not trained in this epoch.
    pub(super) frozen: UnusedTensors,
    /// The batches whose gradients are added for one step of the optimizer.
    pub(super) accumulation: usize,
    pub(super) ema: Option<Ema<M>>,
    /// What the batches of an unfinished epoch add up to.
    pub(super) pending: Option<EpochReport>,
    /// Zeros between two steps, in the memory of the last gradients.
    pub(super) grads: Option<Gradients<f32, D>>,
    /// The batches whose sum the gradients are.
    pub(super) accumulated: usize,
    pub(super) communicator: Communicator,
    /// Of the gradients, if there are other ranks.
    pub(super) exchange: Option<Arc<GradientExchange>>,
}

impl<M, D> Trainer<M, D>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
{
    /// A model before its first epoch, with [`Adam`].
    ///
    /// # Errors
    /// As [`Adam::new`].
    pub fn new(model: M, config: AdamConfig) -> Result<Self> {
        let optimizer = Adam::new(&model, config)?;
        Ok(Self::with_optimizer(model, optimizer))
    }
}

impl<M, D, O> Trainer<M, D, O>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
    O: Optimizer<M, f32, D>,
{
    /// A model before its first epoch, with any optimizer.
    pub fn with_optimizer(model: M, optimizer: O) -> Self {
        Self {
            model,
            optimizer,
            epoch: 0,
            schedule: None,
            lr_schedule: None,
            clip: Clip::default(),
            mixup: None,
            frozen: UnusedTensors::default(),
            targets: Targets {
                smoothing: 0.0,
                weights: None,
            },
            accumulation: 1,
            ema: None,
            pending: None,
            grads: None,
            accumulated: 0,
            communicator: Communicator::alone(),
            exchange: None,
        }
    }

    /// The schedule of the drop rates; `None` if the caller sets them.
    pub fn schedule(&self) -> Option<&SchedulePlan> {
        self.schedule.as_ref()
    }

    /// The number of epochs done, which is the number of the next one, or of the one that is
    /// [under way](Self::batches_done).
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The batches done of an epoch that was [paused](Self::train_part); 0 between epochs.
    pub fn batches_done(&self) -> usize {
        self.pending.map_or(0, |sums| sums.batches)
    }

    /// What a backward pass costs, by layer, for images of this size (C, H, W), as the reports count it: with the
    /// dropout that is on, and without what [frozen](crate::optim::ParameterGroups::freeze) parameters leave out.
    ///
    /// # Errors
    /// As [`ModelCost::of`].
    pub fn backward_cost(&mut self, size: ImageSize) -> Result<ModelCost>
    where
        M: VisitLayers + BackwardCost,
    {
        let mut dropped = HashSet::new();
        self.model.visit_dropout(&mut |layer| {
            if layer.dropout.is_on() {
                dropped.insert(layer.path.to_owned());
            }
        });
        let mut parameters = Vec::new();
        for_each_part(&self.model, &mut |name, part| {
            if let Part::Weight(_) = part {
                let is_frozen = self.optimizer.is_frozen(&name);
                parameters.push((name, is_frozen));
            }
            Ok(())
        })?;
        let cost = ModelCost::of::<M>(size)?.with_dropout(|path| dropped.contains(path));
        Ok(cost.with_frozen(&parameters))
    }

    /// [`evaluate`]s the [averaged model](Self::averaged_model). Ranks share the images out, and all have the
    /// result.
    ///
    /// # Errors
    /// As [`evaluate`]; [`Error::Distributed`](crate::Error::Distributed) if a rank is lost.
    pub fn evaluate<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
        &self,
        dev: &D,
        loader: &BatchLoader,
    ) -> Result<Evaluation>
    where
        M: ImageClassifier<C, H, W, CLASSES, D>,
    {
        let ranks = &self.communicator;
        ranks.together(|| {
            let found = evaluate(self.averaged_model(), dev, &self.share_of(loader)?)?;
            found.of_all(ranks)
        })
    }

    /// [`evaluate_by_class`]s the [averaged model](Self::averaged_model).
    ///
    /// # Errors
    /// As [`evaluate_by_class`].
    pub fn evaluate_by_class<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
        &self,
        dev: &D,
        loader: &BatchLoader,
    ) -> Result<(Evaluation, ConfusionMatrix)>
    where
        M: ImageClassifier<C, H, W, CLASSES, D>,
    {
        let ranks = &self.communicator;
        ranks.together(|| {
            let found = evaluate_by_class(self.averaged_model(), dev, &self.share_of(loader)?)?;
            Ok((found.0.of_all(ranks)?, found.1.of_all(ranks)?))
        })
    }

    /// What `objective` [measures](Objective::metrics) of the [averaged model](Self::averaged_model), each
    /// number its mean over the images of `loader`.
    ///
    /// # Errors
    /// As [`BatchLoader::epoch`], and those of the objective.
    pub fn evaluate_on<J: Objective<M, D>>(
        &self,
        objective: &mut J,
        dev: &D,
        loader: &BatchLoader,
    ) -> Result<Metrics> {
        self.communicator
            .together(|| self.evaluate_share(objective, dev, &self.share_of(loader)?))
    }

    /// This rank's share of the batches.
    pub(super) fn share_of(&self, loader: &BatchLoader) -> Result<BatchLoader> {
        let ranks = &self.communicator;
        loader.clone().share_of(ranks.rank(), ranks.size())
    }

    fn evaluate_share<J: Objective<M, D>>(
        &self,
        objective: &mut J,
        dev: &D,
        loader: &BatchLoader,
    ) -> Result<Metrics> {
        let (mut sums, mut images) = (Metrics::new(), 0.0);
        for (number, batch) in loader.epoch(0).enumerate() {
            let batch = batch?;
            let place = Place {
                epoch: 0,
                batch: number,
            };
            let counts = batch.share() > 0.0;
            let input = objective.input(dev, &batch, place)?;
            for (name, value) in objective.metrics(self.averaged_model(), input)? {
                // One that counts elsewhere is looked at for the names.
                let share = if counts {
                    value * batch.len() as f64
                } else {
                    0.0
                };
                match sums.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum += share,
                    None => sums.push((name, share)),
                }
            }
            images += if counts { batch.len() as f64 } else { 0.0 };
        }
        let mut all: Vec<f64> = sums.iter().map(|(_, sum)| *sum).collect();
        all.push(images);
        self.communicator.sum(&mut all)?;
        let images = all.pop().unwrap_or_default().max(1.0);
        let means = all.into_iter().map(|sum| sum / images);
        Ok(sums.iter().map(|(name, _)| *name).zip(means).collect())
    }
}
