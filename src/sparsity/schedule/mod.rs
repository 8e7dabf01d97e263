//! When to drop: the drop rate of each epoch and iteration.

mod curve;
mod text;

pub use curve::{Curve, Span};

use super::DropRate;
use crate::error::{Error, Result};

/// A drop rate for each epoch and iteration of a training run (arXiv 2408.12561, Sec. "Gradient
/// Scheduler").
///
/// A [`Curve`] leads from a start rate (0 unless set otherwise) to the target rate over a [`Span`]:
/// the epochs of the run, or a number of iterations, again and again. The first
/// [`warm_up`](Self::warm_up) epochs are dense; of those after them, every second one is dense too
/// if the schedule is [`interleaved`](Self::interleaved), beginning with the first. The curve goes
/// on under these dense epochs: epoch 4 of 12 is at 4/11 of it, however many were warm-up.
///
/// ```
/// use ssprop::sparsity::{DropRate, Schedule, Span};
///
/// // The paper's choice: 80% dropped in every second epoch, 40% on average.
/// let paper = Schedule::paper();
/// assert!(paper.drop_rate(0, 0).is_dense());
/// assert_eq!(paper.drop_rate(1, 0).rate(), 0.8);
/// assert!((paper.average_drop_rate(50, 391)? - 0.4).abs() < 1e-12);
///
/// // From dense to 80% dropped over 12 epochs, of which three are warm-up.
/// let target = DropRate::new(0.8)?;
/// let linear = Schedule::linear(target, Span::epochs(12)?).warm_up(3)?;
/// assert!(linear.drop_rate(2, 0).is_dense());
/// assert_eq!(linear.drop_rate(11, 0), target);
///
/// // A text for flags and for the metadata of checkpoints, and back.
/// assert_eq!(linear.to_string(), "linear,drop=0.8,epochs=12,warmup=3");
/// assert_eq!(linear.to_string().parse::<Schedule>()?, linear);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    curve: Curve,
    start: DropRate,
    target: DropRate,
    interleaved: bool,
    warm_up: u64,
}

impl Schedule {
    /// Every epoch dense.
    pub const DENSE: Self = Self::constant(DropRate::DENSE);

    /// The same rate throughout.
    pub const fn constant(rate: DropRate) -> Self {
        Self::new(Curve::Constant, rate, rate)
    }

    /// In equal steps from dense to the target ([`Curve::Linear`]).
    pub const fn linear(target: DropRate, span: Span) -> Self {
        Self::new(Curve::Linear(span), DropRate::DENSE, target)
    }

    /// Along half a cosine from dense to the target ([`Curve::Cosine`]).
    pub const fn cosine(target: DropRate, span: Span) -> Self {
        Self::new(Curve::Cosine(span), DropRate::DENSE, target)
    }

    /// Dense in the first half of the span, the target in the second ([`Curve::Bar`]).
    pub const fn bar(target: DropRate, span: Span) -> Self {
        Self::new(Curve::Bar(span), DropRate::DENSE, target)
    }

    /// Dense epochs and epochs at `rate` in turn, the first dense: a bar over two epochs, again and
    /// again. The same as `Schedule::constant(rate).interleaved()`.
    pub const fn alternating(rate: DropRate) -> Self {
        Self::constant(rate).interleaved()
    }

    /// The paper's choice: [`alternating`](Self::alternating) at a drop rate of 0.8.
    pub const fn paper() -> Self {
        Self::alternating(DropRate::PAPER)
    }

    const fn new(curve: Curve, start: DropRate, target: DropRate) -> Self {
        Self {
            curve,
            start,
            target,
            interleaved: false,
            warm_up: 0,
        }
    }

    /// The same with another rate at the curve's start. A constant has no start: its rate stays the
    /// target.
    pub const fn starting_at(mut self, start: DropRate) -> Self {
        if !matches!(self.curve, Curve::Constant) {
            self.start = start;
        }
        self
    }

    /// The same with every second epoch dense: after the warm-up, the first, the third and so on.
    pub const fn interleaved(mut self) -> Self {
        self.interleaved = true;
        self
    }

    /// The same with the first `epochs` dense.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the curve spans fewer epochs than that. Other schedules do not know
    /// the length of their run: see [`check_run`](Self::check_run).
    pub fn warm_up(mut self, epochs: u64) -> Result<Self> {
        self.warm_up = epochs;
        if let Some(Span::Epochs(total)) = self.curve.span() {
            self.check_run(total.get())?;
        }
        Ok(self)
    }

    /// The curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// The rate at the curve's start.
    pub fn start(&self) -> DropRate {
        self.start
    }

    /// The rate that the curve leads to.
    pub fn target(&self) -> DropRate {
        self.target
    }

    /// Whether every second epoch is dense.
    pub fn is_interleaved(&self) -> bool {
        self.interleaved
    }

    /// The number of dense epochs at the beginning.
    pub fn warm_up_epochs(&self) -> u64 {
        self.warm_up
    }

    /// The drop rate of an iteration of an epoch, both counted from 0; the iterations are counted
    /// from each epoch's beginning.
    pub fn drop_rate(&self, epoch: u64, iteration: u64) -> DropRate {
        if self.is_dense_epoch(epoch) {
            return DropRate::DENSE;
        }
        let progress = self.curve.progress(epoch, iteration);
        self.start.towards(self.target, progress)
    }

    /// Whether the epoch is dense by warm-up or interleaving, wherever the curve is.
    fn is_dense_epoch(&self, epoch: u64) -> bool {
        match epoch.checked_sub(self.warm_up) {
            None => true,
            Some(after) => self.interleaved && after % 2 == 0,
        }
    }

    /// Whether the drop rate may differ between the iterations of this epoch.
    pub fn varies_within(&self, epoch: u64) -> bool {
        let by_iteration = matches!(self.curve.span(), Some(Span::Iterations(_)));
        by_iteration && self.start != self.target && !self.is_dense_epoch(epoch)
    }

    /// That a run of this many epochs is not shorter than the warm-up.
    ///
    /// # Errors
    /// [`Error::Parameter`] with the warm-up's length.
    pub fn check_run(&self, epochs: u64) -> Result<()> {
        if self.warm_up > epochs {
            return Err(Error::parameter(
                "warm-up epochs",
                format_args!("{} of {epochs}", self.warm_up),
                "at most the epochs of the run",
            ));
        }
        Ok(())
    }

    /// The mean drop rate of the iterations of a run. 0 for a run without any.
    ///
    /// # Errors
    /// As [`check_run`](Self::check_run).
    pub fn average_drop_rate(&self, epochs: u64, iterations_per_epoch: u64) -> Result<f64> {
        self.check_run(epochs)?;
        if epochs == 0 || iterations_per_epoch == 0 {
            return Ok(0.0);
        }
        let epoch_mean = |epoch| {
            if self.varies_within(epoch) {
                let rates = (0..iterations_per_epoch).map(|i| self.drop_rate(epoch, i).rate());
                rates.sum::<f64>() / iterations_per_epoch as f64
            } else {
                self.drop_rate(epoch, 0).rate()
            }
        };
        Ok((0..epochs).map(epoch_mean).sum::<f64>() / epochs as f64)
    }
}

#[cfg(test)]
mod tests;
