//! What is done to the images before a network sees them: what the paper says, or something else.

use clap::ValueEnum;
use ssprop::data::{Fit, ImageDataset, Normalization, Splits, Task};
use ssprop::run::RunConfig;
use ssprop::Error;

use crate::args::Args;

/// Most training images whose mean and deviation are computed.
const SAMPLE: usize = 5000;

/// What is done to the images.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Preparation {
    /// What of the pictures of celeba, imagenet and folder is resized: squeeze (all of it, each side by a
    /// factor of its own, as the paper says) or square (the middle, so that proportions stay)
    /// [default: squeeze, of folder square]
    #[arg(long)]
    pub fit: Option<Fit>,
    /// Mean and deviation that the images are normalised with, which the paper takes from each data set:
    /// usual (the published ones of the whole data set) or own (those of the training images, of 5000 where there
    /// are more) [default: usual, of celeba, which has none, own]
    #[arg(long, value_enum)]
    pub normalization: Option<Normalizing>,
    /// Hold a fifth of imagenet's training images out to choose the epoch by, as of the other tasks. In
    /// the paper's split (Table 1) the 50,000 validation images do that, and no others have public labels
    /// to test on
    #[arg(long)]
    pub hold_out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Normalizing {
    Usual,
    Own,
}

impl Preparation {
    /// # Errors
    /// [`Error::Parameter`] for a flag that says nothing of the task's images.
    pub fn check(&self, task: Task) -> ssprop::Result<()> {
        let is_of_pictures = matches!(task, Task::CelebA | Task::ImageNet | Task::Folder);
        match self.fit {
            Some(fit) if !is_of_pictures => {
                let range = "left out, or go with --task celeba, imagenet or folder";
                return Err(Error::parameter("--fit", fit, range));
            }
            _ => {}
        }
        match self.hold_out && task != Task::ImageNet {
            true => Err(Error::parameter(
                "--hold-out",
                true,
                "left out, or go with --task imagenet",
            )),
            false => Ok(()),
        }
    }

    /// The images as the network is to see them, and their normalisation.
    ///
    /// # Errors
    /// For pictures that cannot be read.
    pub fn apply(
        &self,
        args: &Args,
        mut splits: Splits,
    ) -> ssprop::Result<(Splits, Normalization)> {
        if self.hold_out {
            splits = Splits::new(splits.train, splits.test, args.seed)?;
        }
        if let Some(fit) = self.fit {
            splits = splits.with_fit(fit);
        }
        let normalization = match self.normalizing(args.task) {
            Normalizing::Usual => args.task.normalization(),
            Normalizing::Own => own(&splits.train, args.skip_damaged)?,
        };
        Ok((splits, normalization))
    }

    fn normalizing(&self, task: Task) -> Normalizing {
        self.normalization.unwrap_or(match task {
            Task::CelebA => Normalizing::Own,
            _ => Normalizing::Usual,
        })
    }

    /// Runs of before had squares of all pictures and the usual normalisation, and do not say so.
    pub fn record(&self, task: Task, config: RunConfig) -> RunConfig {
        let squeezed = matches!(task, Task::CelebA | Task::ImageNet);
        let fit = self.fit.or(squeezed.then_some(Fit::Squeeze));
        let config = match fit {
            Some(Fit::Squeeze) => config.fixed("fit", Fit::Squeeze),
            _ => config,
        };
        match self.normalizing(task) {
            Normalizing::Own => config.fixed("normalization", "own"),
            Normalizing::Usual => config,
        }
    }
}

fn own(train: &ImageDataset, skip_damaged: bool) -> ssprop::Result<Normalization> {
    let sample = train.shuffled(0).take(SAMPLE);
    match skip_damaged {
        true => Normalization::of(&sample.without_damaged()?.0),
        false => Normalization::of(&sample),
    }
}
