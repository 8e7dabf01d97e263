//! A model in training.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use dfdx::nn::TensorCollection;
use dfdx::optim::UnusedTensors;
use dfdx::tensor::Gradients;

use super::classification::Classification;
use super::classifier::ImageClassifier;
use super::confusion::ConfusionMatrix;
use super::drop_rates::{larger, DropRates};
use super::evaluate::{evaluate, evaluate_by_class, Evaluation};
use super::mixup::Mixup;
use super::objective::{Metrics, Objective, Place};
use super::report::{whole_epoch, BatchReport, EpochReport, Observer};
use super::step::{lap, Step, Updated};
use super::targets::Targets;
use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, Part};
use crate::data::BatchLoader;
use crate::distributed::{average_statistics, check_same_weights, Communicator, GradientExchange};
use crate::error::{Error, Result};
use crate::nn::{BackwardCost, ImageSize, ModelCost, SchedulePlan, VisitDropout, VisitSparse};
use crate::optim::{Adam, AdamConfig, Clip, Ema, LrSchedule, Optimizer};

/// Steps from one comparison of the ranks' weights to the next.
const CHECK_EVERY: usize = 100;

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

    /// One pass over the batches of the next epoch, `loader.epoch(self.epoch())`. The loss is the
    /// cross entropy, or for a multi-label data set the binary cross entropy, its mean over images
    /// and labels.
    ///
    /// With [a schedule](Self::with_schedule) the drop rates are set by it before every training
    /// step. Without one they are the model's: set them before, with
    /// [`set_drop_rate`](crate::nn::VisitSparse::set_drop_rate) all alike or with
    /// [`visit_sparse`](crate::nn::VisitSparse::visit_sparse) by layer; they stay as they are. The
    /// report counts FLOPs by them (by what is known beforehand:
    /// [`counted_drop_rate`](crate::ops::Backward::counted_drop_rate)). Random selections are told
    /// each iteration's number, counted through the run. So with dropout, which
    /// [`set_dropout`](crate::nn::VisitDropout::set_dropout) switches on: its masks follow from its
    /// seed, the epoch and the batch's number.
    ///
    /// # Errors
    /// [`Error::Diverged`] for the first batch whose loss or gradient is infinite or NaN; as
    /// [`BatchLoader::epoch`] for a picture that cannot be read, and for an epoch without a batch; as
    /// [`Batch::image_tensor`](crate::data::Batch::image_tensor) and
    /// [`Batch::targets`](crate::data::Batch::targets) if the data do not fit the model; those of
    /// the model and the optimizer. The epoch then counts as not done, though the batches before
    /// have changed the model.
    pub fn train_epoch<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
        &mut self,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> Result<EpochReport>
    where
        M: ImageClassifier<C, H, W, CLASSES, D>,
    {
        whole_epoch(observer, |observer| {
            self.train_part::<C, H, W, CLASSES>(dev, loader, observer)
        })
    }

    /// [`train_epoch`](Self::train_epoch) up to where the observer [pauses](Observer::pause) it: then
    /// `None`, and the next call goes on from there. [`save`](Self::save) may come in between.
    ///
    /// # Errors
    /// As [`train_epoch`](Self::train_epoch); [`Error::Parameter`] if `loader` has no more batches than
    /// are done.
    pub fn train_part<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
        &mut self,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> Result<Option<EpochReport>>
    where
        M: ImageClassifier<C, H, W, CLASSES, D>,
    {
        let mut objective = Classification::<C, H, W, CLASSES> {
            targets: self.targets.clone(),
            mixup: self.mixup,
        };
        self.train_part_on(&mut objective, dev, loader, observer)
    }

    /// [`train_epoch`](Self::train_epoch) on a loss of your own.
    ///
    /// # Errors
    /// As [`train_epoch`](Self::train_epoch), and those of the objective.
    pub fn train_epoch_on<J: Objective<M, D>>(
        &mut self,
        objective: &mut J,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> Result<EpochReport>
    where
        M: VisitSparse + VisitDropout + BackwardCost,
    {
        whole_epoch(observer, |observer| {
            self.train_part_on(objective, dev, loader, observer)
        })
    }

    /// [`train_part`](Self::train_part) on a loss of your own.
    ///
    /// # Errors
    /// As [`train_part`](Self::train_part), and those of the objective.
    pub fn train_part_on<J: Objective<M, D>>(
        &mut self,
        objective: &mut J,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> Result<Option<EpochReport>>
    where
        M: VisitSparse + VisitDropout + BackwardCost,
    {
        let communicator = self.communicator.clone();
        communicator.together(|| self.train_share(objective, dev, loader, observer))
    }

    /// [`train_part_on`](Self::train_part_on) of this rank's share of the batches.
    fn train_share<J: Objective<M, D>>(
        &mut self,
        objective: &mut J,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> Result<Option<EpochReport>>
    where
        M: VisitSparse + VisitDropout + BackwardCost,
    {
        let communicator = self.communicator.clone();
        let loader = &self.share_of(loader)?;
        let epoch = self.epoch;
        // Sums, until the epoch is done.
        let mut sums = self.pending.take().unwrap_or(EpochReport {
            epoch,
            ..Default::default()
        });
        let done = sums.batches;
        if done > 0 && done >= loader.len() {
            let range = "less than the batches of an epoch: the checkpoint is of another data set or batch size";
            return Err(Error::parameter("batches done", done, range));
        }
        self.model.visit_dropout(&mut |layer| {
            layer.dropout.resume_epoch(epoch, done as u64);
            layer.dropout.begin_after(0);
        });
        self.frozen = self.frozen_parameters()?;
        if self.accumulated > 0 {
            // Left by an epoch that ended with an error.
            (self.grads, self.accumulated) = (None, 0);
        }
        let image = loader.shape();
        let size = [image.channels, image.height, image.width];
        let cost = self.backward_cost(size)?;
        let varies = self
            .schedule
            .as_ref()
            .is_some_and(|plan| plan.varies_within(epoch));
        self.apply_schedule(done as u64)?;
        let mut drop_rates = DropRates::of(&mut self.model);
        let mut clock = Instant::now();
        // Counted through the run, also where it is resumed.
        let first = epoch.wrapping_mul(loader.len() as u64);
        for batch in loader.epoch(epoch).skip(done) {
            let batch = batch?;
            let number = sums.batches;
            if varies && number > done {
                self.apply_schedule(number as u64)?;
                drop_rates = DropRates::of(&mut self.model);
            }
            self.model.set_iteration(first.wrapping_add(number as u64));
            if self.exchange.is_some() {
                self.model
                    .visit_dropout(&mut |layer| layer.dropout.begin_after(batch.first_place()));
            }
            if let Some((lr, schedule)) = self.lr_schedule {
                let step = (number / self.accumulation) as u64;
                let steps = loader.len().div_ceil(self.accumulation) as u64;
                let factor = schedule.factor(epoch, step, steps);
                self.optimizer.set_lr(lr * factor)?;
            }
            let is_last = number + 1 == loader.len();
            let done = self.step(objective, dev, &batch, number, is_last, &mut clock)?;
            let Step {
                loss,
                seconds,
                update,
            } = done;
            observer.batch(&BatchReport {
                epoch,
                batch: number,
                batches: loader.len(),
                images: batch.whole_len(),
                loss,
                drop_rate: drop_rates.largest(),
                mean_drop_rate: drop_rates.mean(),
                seconds,
            });
            sums.batches += 1;
            sums.images += batch.whole_len();
            sums.loss += loss * batch.whole_len() as f64;
            sums.drop_rate = larger(sums.drop_rate, drop_rates.largest());
            sums.mean_drop_rate += drop_rates.mean();
            sums.seconds.add(&seconds);
            sums.backward_flops +=
                cost.per_iteration_by_layer(batch.whole_len(), |path| drop_rates.at(path));
            sums.lr = self.optimizer.lr();
            let Some(Updated { norm, batches }) = update else {
                continue;
            };
            let sum = norm.map(|norm| norm * batches as f64);
            sums.grad_norm = sum.map(|sum| sums.grad_norm.unwrap_or(0.0) + sum);
            let step = number / self.accumulation;
            if self.exchange.is_some() && (is_last || step.is_multiple_of(CHECK_EVERY)) {
                let when = format!("after batch {number} of epoch {epoch}");
                check_same_weights(&communicator, &self.model, &when)?;
            }
            // All ranks stop where one does.
            if !is_last && communicator.any(observer.pause())? {
                self.average_statistics()?;
                dev.try_synchronize().map_err(Error::device)?;
                sums.seconds.optimizer += lap(&mut clock);
                self.pending = Some(sums);
                return Ok(None);
            }
        }
        self.average_statistics()?;
        dev.try_synchronize().map_err(Error::device)?;
        sums.seconds.optimizer += lap(&mut clock);
        let batches = sums.batches.max(1) as f64;
        let report = EpochReport {
            loss: sums.loss / sums.images.max(1) as f64,
            mean_drop_rate: sums.mean_drop_rate / batches,
            grad_norm: sums.grad_norm.map(|sum| sum / batches),
            ..sums
        };
        self.epoch += 1;
        observer.epoch(&report);
        Ok(Some(report))
    }

    /// Makes the running statistics of batch norms the mean of all ranks'. (Each rank's are a moving average:
    /// the mean of averages is the average of the means, however often it is taken.)
    fn average_statistics(&mut self) -> Result<()> {
        if self.exchange.is_none() {
            return Ok(());
        }
        average_statistics(&self.communicator, &mut self.model)?;
        match &mut self.ema {
            Some(ema) => average_statistics(&self.communicator, &mut ema.model),
            None => Ok(()),
        }
    }

    /// What a backward pass costs, by layer, for images of this size (C, H, W), as the reports count it: with the
    /// dropout that is on, and without what [frozen](crate::optim::ParameterGroups::freeze) parameters leave out.
    ///
    /// # Errors
    /// As [`ModelCost::of`].
    pub fn backward_cost(&mut self, size: ImageSize) -> Result<ModelCost>
    where
        M: VisitDropout + BackwardCost,
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

    /// Sets the drop rates for an iteration of the next epoch, if there is a schedule.
    fn apply_schedule(&mut self, iteration: u64) -> Result<()>
    where
        M: VisitSparse,
    {
        match &self.schedule {
            Some(plan) => plan.apply(&mut self.model, self.epoch, iteration),
            None => Ok(()),
        }
    }

    /// [`evaluate`]s the [averaged model](Self::averaged_model). Ranks share the images out, and all have the
    /// result.
    ///
    /// # Errors
    /// As [`evaluate`]; [`Error::Distributed`] if a rank is lost.
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

    fn share_of(&self, loader: &BatchLoader) -> Result<BatchLoader> {
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
