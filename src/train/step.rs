//! One batch's training.

use std::time::Instant;

use dfdx::nn::{TensorCollection, ZeroGrads};
use dfdx::optim::UnusedTensors;
use dfdx::tensor::Gradients;
use dfdx::tensor_ops::{Backward, TryMul};

use super::objective::{Objective, Place};
use super::report::Seconds;
use super::Trainer;
use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, Part};
use crate::bridge::unneeded::Step as Pass;
use crate::checkpoint::check_finite;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::optim::Optimizer;
use crate::profile::timed;

/// The seconds since `clock` was read last.
pub(super) fn lap(clock: &mut Instant) -> f64 {
    let now = Instant::now();
    let since = now.duration_since(std::mem::replace(clock, now));
    since.as_secs_f64()
}

/// One batch's training.
pub(super) struct Step {
    /// The mean over the whole batch, on all ranks.
    pub(super) loss: f64,
    pub(super) seconds: Seconds,
    /// If the optimizer made its step.
    pub(super) update: Option<Updated>,
}

/// A step of the optimizer.
pub(super) struct Updated {
    /// The norm of the gradient, if it is known.
    pub(super) norm: Option<f64>,
    /// The batches whose mean gradient it was made with.
    pub(super) batches: usize,
}

impl<M, D, O> Trainer<M, D, O>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
    O: Optimizer<M, f32, D>,
{
    /// Trains on one batch, with a step of the optimizer if it is the last of those whose gradients are
    /// added; `clock` was read when its making began.
    pub(super) fn step<J: Objective<M, D>>(
        &mut self,
        objective: &mut J,
        dev: &D,
        batch: &Batch,
        number: usize,
        is_last: bool,
        clock: &mut Instant,
    ) -> Result<Step> {
        // A GPU works on while the host goes ahead: the host waits for it where it reads the loss.
        let mut lap = || lap(clock);
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
        seconds.data = lap();

        let is_complete = self.accumulated + 1 == self.accumulation || is_last;
        let (mut grads, optimizer) = (grads, &self.optimizer);
        let trained = |name: &str| !optimizer.is_frozen(name);
        let share = batch.share();
        // As long as this lives, the hooks find the other ranks.
        let exchange = match &self.exchange {
            Some(e) => {
                let is_eager = is_complete && !objective.uses_parameters();
                Some(e.begin(&self.model, &mut grads, &trained, is_eager, share)?)
            }
            None => None,
        };
        let pass = Pass::begin(&self.frozen);
        let loss = objective.loss(&mut self.model, input, grads)?;
        drop(pass);
        let value = loss.as_vec().first().copied().unwrap_or(f32::NAN);
        seconds.forward = lap();
        if !value.is_finite() {
            return Err(self.diverged(number, "the loss", value.into()));
        }

        // So that the gradients' sum over the ranks is that of the whole batch's mean loss.
        let loss = match share == 1.0 {
            true => loss,
            false => loss.try_mul(share as f32).map_err(Error::device)?,
        };
        let mut grads = loss.try_backward().map_err(Error::device)?;
        drop(exchange);
        if let (Some(exchange), true) = (&self.exchange, is_complete) {
            timed("exchange of gradients", || {
                exchange.finish(&self.model, &mut grads, &trained)
            })?;
        }
        let mut losses = [f64::from(value) * share];
        self.communicator.sum(&mut losses)?;
        seconds.backward = lap();

        self.accumulated += 1;
        let mut update = None;
        if is_complete {
            update = Some(self.update(number, &mut grads)?);
        }
        self.grads = Some(grads);
        seconds.optimizer = lap();
        Ok(Step {
            loss: losses[0],
            seconds,
            update,
        })
    }

    /// The parameters that are not trained.
    pub(super) fn frozen_parameters(&self) -> Result<UnusedTensors> {
        let mut frozen = UnusedTensors::default();
        for_each_part(&self.model, &mut |name, part| {
            if let Part::Weight(tensor) = part {
                if self.optimizer.is_frozen(&name) {
                    tensor.add_to_unused(&mut frozen);
                }
            }
            Ok(())
        })?;
        Ok(frozen)
    }

    /// The optimizer's step on the mean of the gradients that were added, which are zeros afterwards.
    fn update(&mut self, number: usize, grads: &mut Gradients<f32, D>) -> Result<Updated> {
        let batches = std::mem::take(&mut self.accumulated);
        let optimizer = &self.optimizer;
        let trained = |name: &str| !optimizer.is_frozen(name);
        let mean = 1.0 / batches as f64;
        let (scale, clipped) = self.clip.apply(&self.model, grads, mean, &trained)?;
        // Before it spoils the weights, where it is known by then.
        self.check_norm(number, clipped)?;
        self.optimizer.step(&mut self.model, grads, scale)?;
        let norm = clipped.or(self.optimizer.grad_norm());
        self.check_norm(number, norm)?;
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model)?;
        }
        Ok(Updated { norm, batches })
    }

    fn check_norm(&self, number: usize, norm: Option<f64>) -> Result<()> {
        match norm.filter(|norm| !norm.is_finite()) {
            Some(norm) => Err(self.diverged(number, "the norm of the gradient", norm)),
            None => Ok(()),
        }
    }

    fn diverged(&self, batch: usize, what: &'static str, value: f64) -> Error {
        Error::Diverged {
            epoch: self.epoch,
            batch,
            what,
            value,
            lr: self.optimizer.lr(),
            tensor: match check_finite("", &self.model) {
                Err(Error::NonFiniteWeight { name, .. }) => Some(name),
                _ => None,
            },
        }
    }
}
