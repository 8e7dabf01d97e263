//! Many trainings that differ in one thing at a time.

use std::path::Path;
use std::time::Instant;

use clap::Args;
use ssprop::data::{self, BatchLoader, ImageDataset, Limits, Normalization, Task};
use ssprop::prelude::*;
use ssprop::run::{Claim, RunOptions};
use ssprop::train::ImageClassifier;
use ssprop::{Backend, Error};

use super::args;
use super::device::Device;

/// The flags of such a set of runs, but for its size.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// Images in a batch [default: 50, with --paper 128]
    #[arg(long, value_parser = args::count)]
    pub batch_size: Option<usize>,
    /// The first run's seed; the others have those that follow. It decides the initialisation, the
    /// order of the images and random selections
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where the networks run
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Device,
    /// Threads [default: one a core]
    #[arg(long, value_parser = args::threads)]
    pub threads: Option<usize>,
    /// Replace an earlier run's results in --out
    #[arg(long)]
    pub overwrite: bool,
}

impl Flags {
    pub fn batch_size(&self, paper: bool) -> usize {
        self.batch_size.unwrap_or(if paper { 128 } else { 50 })
    }

    /// The folder for `results`, which is this program's while the claim lives.
    pub fn folder(
        &self,
        out: Option<&Path>,
        base: &Path,
        results: &[&str],
    ) -> ssprop::Result<Claim> {
        let options = RunOptions {
            out: out.map(Path::to_owned),
            overwrite: self.overwrite,
            ..Default::default()
        };
        Claim::new(base, &options, results)
    }
}

/// The images of all runs.
pub struct Images {
    pub train: ImageDataset,
    pub test: ImageDataset,
    normalization: Normalization,
}

impl Images {
    /// Those of a figure of the paper at its size, of `paper`'s task at `path`; or part of the bundled ones, as
    /// many as `limits` or else `usual` says.
    ///
    /// # Errors
    /// As [`of_paper`](Self::of_paper).
    pub fn of_figure(
        paper: Option<Task>,
        path: Option<&Path>,
        limits: Limits,
        [train, test]: [usize; 2],
    ) -> ssprop::Result<Self> {
        match paper {
            Some(task) => Self::of_paper(task, path, limits),
            None => Self::bundled(limits.train.unwrap_or(train), limits.test.unwrap_or(test)),
        }
    }

    /// Part of the bundled images, the same number of each class.
    pub fn bundled(train_limit: usize, test_limit: usize) -> ssprop::Result<Self> {
        Self::limited(data::bundled()?, train_limit, test_limit)
    }

    /// Fashion-MNIST in the IDX format at a path, or its bundled part without one, up to so many
    /// images, the same number of each class.
    pub fn fashion_mnist(
        path: Option<&Path>,
        train_limit: Option<usize>,
        test_limit: Option<usize>,
    ) -> ssprop::Result<Self> {
        let sets = match path {
            Some(path) => data::fashion_mnist(path)?,
            None => data::bundled()?,
        };
        let (train, test) = (sets.0.len(), sets.1.len());
        Self::limited(
            sets,
            train_limit.unwrap_or(train),
            test_limit.unwrap_or(test),
        )
    }

    /// The paper's split of one of its tasks at `path`, the fifth for validation left out, up to so many
    /// images.
    ///
    /// # Errors
    /// [`Error::Parameter`] without a path; as [`Task::load`].
    pub fn of_paper(task: Task, path: Option<&Path>, limits: Limits) -> ssprop::Result<Self> {
        let range = "given with --data, the data set's folder or archive";
        let path = path.ok_or_else(|| Error::parameter("--paper", task, range))?;
        let splits = task.load(path, limits, 0)?;
        Ok(Self {
            train: splits.train,
            test: splits.test,
            normalization: task.normalization(),
        })
    }

    fn limited(
        (train, test): (ImageDataset, ImageDataset),
        train_limit: usize,
        test_limit: usize,
    ) -> ssprop::Result<Self> {
        let train = train.take_balanced(train_limit);
        Ok(Self {
            normalization: Normalization::of(&train)?,
            test: test.take_balanced(test_limit),
            train,
        })
    }

    /// The same images with `size` rows and columns.
    pub fn resized(self, size: usize) -> ssprop::Result<Self> {
        let is = self.train.shape();
        if (is.height, is.width) == (size, size) {
            return Ok(self);
        }
        let train = self.train.resized(size, size)?;
        Ok(Self {
            normalization: Normalization::of(&train)?,
            test: self.test.resized(size, size)?,
            train,
        })
    }

    fn batches(&self, of: &ImageDataset, size: usize) -> ssprop::Result<BatchLoader> {
        BatchLoader::new(of, size)?.normalize(self.normalization.clone())
    }
}

/// One training.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub epochs: usize,
    pub batch_size: usize,
    pub lr: f64,
    pub lr_schedule: LrSchedule,
    pub schedule: Schedule,
    /// [`AdamConfig::lazy`]
    pub lazy: bool,
    pub seed: u64,
}

/// What a training led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Accuracy on the test images after the last epoch; NaN if the loss became infinite or NaN.
    pub accuracy: f64,
    /// Backward FLOPs of the epochs.
    pub backward_flops: f64,
    /// Wall-clock seconds of the epochs, without the test.
    pub seconds: f64,
    /// Those of them that the backward passes took.
    pub backward_seconds: f64,
}

impl Run {
    /// Trains a model on its device, and tests it once at the end.
    pub fn outcome<M, D, const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
        &self,
        images: &Images,
        dev: &D,
        model: M,
    ) -> ssprop::Result<Outcome>
    where
        D: Backend<f32>,
        M: ImageClassifier<C, H, W, CLASSES, D>,
    {
        let train = images.batches(&images.train, self.batch_size)?;
        let train = train.shuffle(self.seed);
        let config = AdamConfig {
            lr: self.lr,
            lazy: self.lazy,
            ..AdamConfig::adam()
        };
        let mut trainer: Trainer<M, D> = Trainer::new(model, config)?
            .with_schedule(self.schedule)?
            .with_lr_schedule(self.lr_schedule);
        let mut outcome = Outcome {
            accuracy: f64::NAN,
            backward_flops: 0.0,
            seconds: 0.0,
            backward_seconds: 0.0,
        };
        let start = Instant::now();
        for _ in 0..self.epochs {
            match trainer.train_epoch::<C, H, W, CLASSES>(dev, &train, &mut ()) {
                Ok(report) => {
                    outcome.backward_flops += report.backward_flops;
                    outcome.backward_seconds += report.seconds.backward;
                    outcome.seconds = start.elapsed().as_secs_f64();
                }
                Err(Error::Diverged { .. }) => return Ok(outcome),
                Err(err) => return Err(err),
            }
        }
        let test = images.batches(&images.test, 100)?;
        let result = trainer.evaluate::<C, H, W, CLASSES>(dev, &test)?;
        if result.loss.is_finite() {
            outcome.accuracy = result.accuracy();
        }
        Ok(outcome)
    }
}
