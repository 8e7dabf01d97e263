//! What training tells about itself.

use crate::error::{Error, Result};
use crate::sparsity::DropRate;

/// Wall-clock time by what it was spent on, in seconds.
///
/// On a GPU the host is ahead of the device, and waits for it where it reads the loss, at the end of the forward
/// pass, and at the end of an epoch: the sum is right, but most of a backward pass counts as the next step's
/// forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seconds {
    /// Making batches and their tensors.
    pub data: f64,
    /// Forward passes, with the loss.
    pub forward: f64,
    /// Backward passes, with what other ranks' gradients are waited for.
    pub backward: f64,
    /// Updates of the parameters.
    pub optimizer: f64,
}

impl Seconds {
    /// The sum of all.
    pub fn total(&self) -> f64 {
        self.data + self.forward + self.backward + self.optimizer
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.data += other.data;
        self.forward += other.forward;
        self.backward += other.backward;
        self.optimizer += other.optimizer;
    }
}

/// One training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchReport {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The batch in the epoch, counted from 0.
    pub batch: usize,
    /// Batches in the epoch.
    pub batches: usize,
    /// Images in the batch.
    pub images: usize,
    /// The mean loss of the batch's images.
    pub loss: f64,
    /// The largest drop rate of the sparse layers; 0 if all are dense.
    pub drop_rate: DropRate,
    /// The mean drop rate of the sparse layers, each counted alike. 0 without any.
    pub mean_drop_rate: f64,
    /// The time that it took.
    pub seconds: Seconds,
}

/// One epoch of training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EpochReport {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Training steps.
    pub batches: usize,
    /// Images seen.
    pub images: usize,
    /// The mean loss of the images, each at the time when it was seen. 0 without images.
    pub loss: f64,
    /// The largest drop rate of a sparse layer in a training step; 0 if all were dense.
    pub drop_rate: DropRate,
    /// The mean drop rate of the sparse layers, each counted alike, over the training steps. 0
    /// without any.
    pub mean_drop_rate: f64,
    /// The time that it took.
    pub seconds: Seconds,
    /// Backward FLOPs, as [`flops`](crate::sparsity::flops) counts them, with each layer's own drop
    /// rate in each training step.
    pub backward_flops: f64,
    /// The learning rate of the last step.
    pub lr: f64,
    /// The mean norm of the steps' gradients, over all parameters; `None` on CUDA.
    pub grad_norm: Option<f64>,
}

/// Is told how training goes: for progress bars and logs. `()` ignores it.
pub trait Observer {
    /// After every training step.
    fn batch(&mut self, report: &BatchReport) {
        let _ = report;
    }

    /// After every epoch.
    fn epoch(&mut self, report: &EpochReport) {
        let _ = report;
    }

    /// Whether [`Trainer::train_part`](super::Trainer::train_part) should stop here: asked after
    /// every step of the optimizer but an epoch's last.
    fn pause(&mut self) -> bool {
        false
    }
}

impl Observer for () {}

/// An observer that does not pause.
struct Unpaused<'a>(&'a mut dyn Observer);

impl Observer for Unpaused<'_> {
    fn batch(&mut self, report: &BatchReport) {
        self.0.batch(report);
    }

    fn epoch(&mut self, report: &EpochReport) {
        self.0.epoch(report);
    }
}

/// Trains on to the end of an epoch, whatever the observer says.
pub(crate) fn whole_epoch(
    observer: &mut dyn Observer,
    train: impl FnOnce(&mut dyn Observer) -> Result<Option<EpochReport>>,
) -> Result<EpochReport> {
    let done = train(&mut Unpaused(observer))?;
    done.ok_or_else(|| Error::parameter("epoch", "paused", "done to its end"))
}
