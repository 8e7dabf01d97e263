//! Many trainings that differ in one thing at a time.

use std::path::Path;
use std::time::Instant;

use clap::Args;
use ssprop::data::{self, BatchLoader, ImageDataset, Normalization};
use ssprop::prelude::*;
use ssprop::run::{Claim, RunOptions};
use ssprop::train::ImageClassifier;
use ssprop::Error;

use super::args;

/// The flags of such a set of runs, but for its size.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// Images in a batch
    #[arg(long, default_value = "50", value_parser = args::count)]
    pub batch_size: usize,
    /// The first run's seed; the others have those that follow. It decides the initialisation, the
    /// order of the images and random selections
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads [default: one a core]
    #[arg(long, value_parser = args::threads)]
    pub threads: Option<usize>,
    /// Replace an earlier run's results in --out
    #[arg(long)]
    pub overwrite: bool,
}

impl Flags {
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
    pub schedule: Schedule,
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
    /// Trains the model that `build` makes and returns its accuracy on the test images: NaN if the
    /// loss became infinite or NaN.
    pub fn test_accuracy<M>(
        &self,
        images: &Images,
        build: impl FnOnce(&Cpu) -> M,
    ) -> ssprop::Result<f64>
    where
        M: ImageClassifier<1, 28, 28, 10, Cpu>,
    {
        Ok(self.outcome(images, build)?.accuracy)
    }

    /// Trains the model that `build` makes, and tests it once at the end.
    pub fn outcome<M>(
        &self,
        images: &Images,
        build: impl FnOnce(&Cpu) -> M,
    ) -> ssprop::Result<Outcome>
    where
        M: ImageClassifier<1, 28, 28, 10, Cpu>,
    {
        let dev = Cpu::seed_from_u64(self.seed);
        let train = images.batches(&images.train, self.batch_size)?;
        let train = train.shuffle(self.seed);
        let config = AdamConfig {
            lr: self.lr,
            ..AdamConfig::adam()
        };
        let mut trainer = Trainer::new(build(&dev), config)?.with_schedule(self.schedule)?;
        let mut outcome = Outcome {
            accuracy: f64::NAN,
            backward_flops: 0.0,
            seconds: 0.0,
            backward_seconds: 0.0,
        };
        let start = Instant::now();
        for _ in 0..self.epochs {
            match trainer.train_epoch::<1, 28, 28, 10>(&dev, &train, &mut ()) {
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
        let result = trainer.evaluate::<1, 28, 28, 10>(&dev, &test)?;
        if result.loss.is_finite() {
            outcome.accuracy = result.accuracy();
        }
        Ok(outcome)
    }
}
