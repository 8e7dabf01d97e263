//! An epoch's training.

use std::time::Instant;

use dfdx::nn::TensorCollection;

use super::classification::Classification;
use super::classifier::ImageClassifier;
use super::drop_rates::{larger, DropRates};
use super::objective::Objective;
use super::report::{whole_epoch, BatchReport, EpochReport, Observer};
use super::step::{lap, Step, Updated};
use super::Trainer;
use crate::backend::Backend;
use crate::data::BatchLoader;
use crate::distributed::{average_statistics, check_same_weights};
use crate::error::{Error, Result};
use crate::nn::{BackwardCost, VisitLayers};
use crate::optim::Optimizer;

/// Steps from one comparison of the ranks' weights to the next.
const CHECK_EVERY: usize = 100;

impl<M, D, O> Trainer<M, D, O>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
    O: Optimizer<M, f32, D>,
{
    /// One pass over the batches of the next epoch, `loader.epoch(self.epoch())`. The loss is the
    /// cross entropy, or for a multi-label data set the binary cross entropy, its mean over images
    /// and labels.
    ///
    /// With [a schedule](Self::with_schedule) the drop rates are set by it before every training
    /// step. Without one they are the model's: set them before, with
    /// [`set_drop_rate`](crate::nn::VisitLayers::set_drop_rate) all alike or with
    /// [`visit_sparse`](crate::nn::VisitLayers::visit_sparse) by layer; they stay as they are. The
    /// report counts FLOPs by them (by what is known beforehand:
    /// [`counted_drop_rate`](crate::ops::SparseBackward::counted_drop_rate)). Random selections are told
    /// each iteration's number, counted through the run. So with dropout, which
    /// [`set_dropout`](crate::nn::VisitLayers::set_dropout) switches on: its masks follow from its
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
        M: VisitLayers + BackwardCost,
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
        M: VisitLayers + BackwardCost,
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
        M: VisitLayers + BackwardCost,
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

    /// Sets the drop rates for an iteration of the next epoch, if there is a schedule.
    fn apply_schedule(&mut self, iteration: u64) -> Result<()>
    where
        M: VisitLayers,
    {
        match &self.schedule {
            Some(plan) => plan.apply(&mut self.model, self.epoch, iteration),
            None => Ok(()),
        }
    }
}
