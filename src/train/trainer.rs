//! A model in training.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use dfdx::nn::{TensorCollection, ZeroGrads};
use dfdx::tensor::Gradients;
use dfdx::tensor_ops::Backward;

use super::classifier::ImageClassifier;
use super::drop_rates::{larger, DropRates};
use super::evaluate::{evaluate, Evaluation};
use super::objective::{Classification, Objective, Place};
use super::report::{whole_epoch, BatchReport, EpochReport, Observer, Seconds};
use super::unfinished;
use crate::backend::Backend;
use crate::checkpoint::{check_finite, load_training_with, save_training_with, Metadata};
use crate::data::{Batch, BatchLoader};
use crate::error::{Error, Result};
use crate::nn::{BackwardCost, ImageSize, ModelCost, SchedulePlan, VisitDropout, VisitSparse};
use crate::optim::{Adam, AdamConfig, LrSchedule};

/// The key of the number of epochs done in a checkpoint's metadata.
const EPOCH: &str = "epoch";
/// The key of the sums of an unfinished one.
const UNFINISHED: &str = "unfinished";

/// A model, its optimizer, the number of epochs done, and the schedule of the drop rates, if it is
/// the trainer that sets them.
#[derive(Debug)]
pub struct Trainer<M, D: Backend<f32>> {
    /// The model.
    pub model: M,
    /// Its optimizer.
    pub optimizer: Adam<M, f32, D>,
    epoch: u64,
    schedule: Option<SchedulePlan>,
    /// The learning rate at first, and its factor.
    lr_schedule: Option<(f64, LrSchedule)>,
    /// What the batches of an unfinished epoch add up to.
    pending: Option<EpochReport>,
    /// Zeros between two steps, in the memory of the last gradients.
    grads: Option<Gradients<f32, D>>,
}

impl<M, D> Trainer<M, D>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
{
    /// A model before its first epoch.
    ///
    /// # Errors
    /// As [`Adam::new`].
    pub fn new(model: M, config: AdamConfig) -> Result<Self> {
        let optimizer = Adam::new(&model, config)?;
        Ok(Self {
            model,
            optimizer,
            epoch: 0,
            schedule: None,
            lr_schedule: None,
            pending: None,
            grads: None,
        })
    }

    /// The same with drop rates that [`train_epoch`](Self::train_epoch) sets itself: a
    /// [`Schedule`](crate::sparsity::Schedule) for all sparse layers, or a [`SchedulePlan`].
    ///
    /// # Errors
    /// [`Error::UnmatchedLayers`] if a part of the plan holds none of the model's sparse layers.
    pub fn with_schedule(mut self, schedule: impl Into<SchedulePlan>) -> Result<Self>
    where
        M: VisitSparse,
    {
        let schedule = schedule.into();
        schedule.resolve_for(&mut self.model)?;
        self.schedule = Some(schedule);
        Ok(self)
    }

    /// The same with a learning rate that is changed before every step: what the optimizer has now, times
    /// the schedule's factor.
    pub fn with_lr_schedule(mut self, schedule: LrSchedule) -> Self {
        self.lr_schedule = Some((self.optimizer.config().lr, schedule));
        self
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
    /// [`Batch::image_tensor`] and [`Batch::targets`] if the data do not fit the model; those of
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
        let mut objective = Classification::<C, H, W, CLASSES>;
        self.train_part_on(&mut objective, [C, H, W], dev, loader, observer)
    }

    /// [`train_part`](Self::train_part) on any loss, for images of `size`.
    pub(crate) fn train_part_on<O: Objective<M, D>>(
        &mut self,
        objective: &mut O,
        size: ImageSize,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> Result<Option<EpochReport>>
    where
        M: VisitSparse + VisitDropout + BackwardCost,
    {
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
        let mut dropped = HashSet::new();
        self.model.visit_dropout(&mut |layer| {
            layer.dropout.resume_epoch(epoch, done as u64);
            if layer.dropout.is_on() {
                dropped.insert(layer.path.to_owned());
            }
        });
        let cost = ModelCost::of::<M>(size)?.with_dropout(|path| dropped.contains(path));
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
            if let Some((lr, schedule)) = self.lr_schedule {
                let factor = schedule.factor(epoch, number as u64, loader.len() as u64);
                self.optimizer.set_lr(lr * factor)?;
            }
            let (loss, seconds) = self.step(objective, dev, &batch, number, &mut clock)?;
            observer.batch(&BatchReport {
                epoch,
                batch: number,
                batches: loader.len(),
                images: batch.len(),
                loss,
                drop_rate: drop_rates.largest(),
                mean_drop_rate: drop_rates.mean(),
                seconds,
            });
            sums.batches += 1;
            sums.images += batch.len();
            sums.loss += loss * batch.len() as f64;
            sums.drop_rate = larger(sums.drop_rate, drop_rates.largest());
            sums.mean_drop_rate += drop_rates.mean();
            sums.seconds.add(&seconds);
            sums.backward_flops +=
                cost.per_iteration_by_layer(batch.len(), |path| drop_rates.at(path));
            sums.lr = self.optimizer.config().lr;
            let norm = self.optimizer.grad_norm();
            sums.grad_norm = norm.map(|norm| sums.grad_norm.unwrap_or(0.0) + norm);
            if sums.batches < loader.len() && observer.pause() {
                self.pending = Some(sums);
                return Ok(None);
            }
        }
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

    /// Trains on one batch; `clock` was read when its making began.
    fn step<O: Objective<M, D>>(
        &mut self,
        objective: &mut O,
        dev: &D,
        batch: &Batch,
        number: usize,
        clock: &mut Instant,
    ) -> Result<(f64, Seconds)> {
        // A device may work on while the host goes ahead.
        let mut lap = || -> Result<f64> {
            dev.try_synchronize().map_err(Error::device)?;
            let now = Instant::now();
            Ok(now
                .duration_since(std::mem::replace(clock, now))
                .as_secs_f64())
        };
        let mut seconds = Seconds::default();
        let place = Place {
            epoch: self.epoch,
            batch: number,
        };
        let input = objective.input(dev, batch, place)?;
        let grads = match self.grads.take() {
            Some(grads) => grads,
            None => ZeroGrads::try_alloc_grads(&self.model).map_err(Error::device)?,
        };
        seconds.data = lap()?;

        let loss = objective.loss(&mut self.model, input, grads)?;
        let value = loss.as_vec().first().copied().unwrap_or(f32::NAN);
        seconds.forward = lap()?;
        if !value.is_finite() {
            return Err(self.diverged(number, "the loss", value.into()));
        }

        let mut grads = loss.try_backward().map_err(Error::device)?;
        seconds.backward = lap()?;

        self.optimizer
            .update_and_zero(&mut self.model, &mut grads)?;
        self.grads = Some(grads);
        if let Some(norm) = self.optimizer.grad_norm().filter(|norm| !norm.is_finite()) {
            return Err(self.diverged(number, "the norm of the gradient", norm));
        }
        objective.updated(&self.model)?;
        seconds.optimizer = lap()?;
        Ok((f64::from(value), seconds))
    }

    fn diverged(&self, batch: usize, what: &'static str, value: f64) -> Error {
        Error::Diverged {
            epoch: self.epoch,
            batch,
            what,
            value,
            lr: self.optimizer.config().lr,
            tensor: match check_finite("", &self.model) {
                Err(Error::NonFiniteWeight { name, .. }) => Some(name),
                _ => None,
            },
        }
    }

    /// [`evaluate`]s the model.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn evaluate<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
        &self,
        dev: &D,
        loader: &BatchLoader,
    ) -> Result<Evaluation>
    where
        M: ImageClassifier<C, H, W, CLASSES, D>,
    {
        evaluate(&self.model, dev, loader)
    }

    /// Saves the model, the optimizer's state, the number of epochs done and how far an unfinished
    /// one is, with `metadata`, whose `epoch` and `unfinished` are replaced.
    ///
    /// What else decides how training goes on is the caller's: the seed of the batches, the
    /// optimizer's hyperparameters, the schedule (whose text can be part of `metadata`), the
    /// dropout's rate and seed. A generator of random numbers in the device (that of dfdx's own
    /// dropout) is not saved.
    ///
    /// # Errors
    /// As [`save_training`](crate::checkpoint::save_training); [`Error::NonFiniteWeight`] if a
    /// weight is infinite or NaN.
    pub fn save(&self, path: impl AsRef<Path>, metadata: &Metadata) -> Result<()> {
        self.save_with(path, None, metadata)
    }

    /// [`save`](Self::save) with a moving average of the model.
    pub(crate) fn save_with(
        &self,
        path: impl AsRef<Path>,
        average: Option<&M>,
        metadata: &Metadata,
    ) -> Result<()> {
        let path = path.as_ref();
        check_finite(&path.display().to_string(), &self.model)?;
        let mut metadata = metadata.clone();
        metadata.insert(EPOCH.to_owned(), self.epoch.to_string());
        metadata.remove(UNFINISHED);
        if let Some(sums) = &self.pending {
            metadata.insert(UNFINISHED.to_owned(), unfinished::to_text(sums));
        }
        save_training_with(path, &self.model, &self.optimizer, average, &metadata)
    }

    /// Goes back to what [`save`](Self::save) saved, and returns the metadata.
    ///
    /// # Errors
    /// As [`load_training`](crate::checkpoint::load_training), and [`Error::StoredValue`] if the
    /// file does not say how many epochs were done.
    pub fn resume(&mut self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.resume_with(path, None)
    }

    /// [`resume`](Self::resume) with a moving average of the model.
    pub(crate) fn resume_with(
        &mut self,
        path: impl AsRef<Path>,
        average: Option<&mut M>,
    ) -> Result<Metadata> {
        let path = path.as_ref();
        let metadata = load_training_with(path, &mut self.model, &mut self.optimizer, average)?;
        self.epoch = stored_number(path, &metadata, EPOCH, "a number of epochs")?;
        self.pending =
            match metadata.get(UNFINISHED) {
                Some(text) => Some(unfinished::from_text(text, self.epoch).ok_or_else(|| {
                    Error::StoredValue {
                        place: path.display().to_string(),
                        name: UNFINISHED.to_owned(),
                        value: text.clone(),
                        range: "the sums of an unfinished epoch",
                    }
                })?),
                None => None,
            };
        Ok(metadata)
    }
}

/// A number in a checkpoint's metadata.
pub(crate) fn stored_number(
    path: &Path,
    metadata: &Metadata,
    key: &str,
    range: &'static str,
) -> Result<u64> {
    let value = metadata.get(key).map_or("(missing)", String::as_str);
    value.parse().map_err(|_| Error::StoredValue {
        place: path.display().to_string(),
        name: key.to_owned(),
        value: value.to_owned(),
        range,
    })
}
