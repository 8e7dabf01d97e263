//! The flags.

use std::path::PathBuf;

use clap::Parser;
use ssprop::data::Task;
use ssprop::diffusion::{BetaSchedule, Loss, Parameterization};
use ssprop::prelude::{LrSchedule, SchedulePlan};

use common::args::{self, RunArgs};
use common::ddpm::{Process, ToSize};
use common::device::Device;
use common::optimization::Optimization;

/// Train a U-Net to take noise from images, with a scheduled sparse backward pass
#[derive(Debug, Parser)]
pub struct Args {
    /// Data set: fashion-mnist, mnist (both at 1x32x32) or celeba (3x64x64)
    #[arg(long, default_value = "fashion-mnist", value_parser = task)]
    pub task: Task,
    /// Its folder, or archive; the run then has the paper's settings unless told otherwise [default: a
    /// short run on the bundled part of Fashion-MNIST]
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// How images come to the network's size: resize (28x28 to 32x32, 218x178 to 64x64, each side by a
    /// factor of its own, as the paper says) or keep (28x28 in the middle of black, of 218x178 the square
    /// in its middle, so that no proportions change)
    #[arg(long, value_enum, default_value = "resize")]
    pub fit: ToSize,
    /// Train on the validation images too, which nothing else uses here: the paper's split (Table 1)
    /// leaves a fifth of mnist's and fashion-mnist's training images out
    #[arg(long)]
    pub no_validation: bool,
    /// Epochs of the whole run [default: the paper's 500, of mnist 300, of celeba 200; 2 of the
    /// bundled images]
    #[arg(long, value_parser = args::count)]
    pub epochs: Option<usize>,
    /// Images in a batch [default: the paper's 128; 64 of the bundled images]
    #[arg(long, value_parser = args::count)]
    pub batch_size: Option<usize>,
    /// Learning rate [default: the paper's 0.001, of celeba 0.0002]
    #[arg(long, value_parser = args::lr)]
    pub lr: Option<f64>,
    /// How it changes: constant (the paper's), "cosine,epochs=50", and all else that train_classifier takes
    #[arg(long, default_value = "constant")]
    pub lr_schedule: LrSchedule,
    /// When how much is dropped: paper (every second epoch 80%), dense, "bar,drop=0.8,period=2"
    /// (every second step), and all else that train_classifier takes, also by layer
    #[arg(long, default_value = "paper")]
    pub schedule: SchedulePlan,
    /// Timesteps of the diffusion [default: the paper's 200, of celeba 1000]
    #[arg(long, value_parser = args::count)]
    pub timesteps: Option<usize>,
    /// How the noise grows, of which the paper says nothing: linear, cosine, sqrt-linear or sqrt
    #[arg(long, default_value = "cosine")]
    pub beta_schedule: BetaSchedule,
    /// What the network predicts: eps (the noise), x0 (the image) or v
    #[arg(long, default_value = "eps")]
    pub parameterization: Parameterization,
    /// Tell the network each image's class, so that it can draw a chosen one (mnist and fashion-mnist)
    #[arg(long)]
    pub classes: bool,
    /// Probability that it is not told an image's class, and learns to draw without [default: 0.1]
    #[arg(long, value_parser = probability, requires = "classes")]
    pub class_dropout: Option<f64>,
    /// Begin with the weights of this model, which ddpm_train has written as model.safetensors. With
    /// --classes it may be one without
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub init: Option<PathBuf>,
    /// Distance from it: l1 or l2
    #[arg(long, default_value = "l2")]
    pub loss: Loss,
    /// Decay of the moving average of the weights, which draws the samples; 0 for none
    #[arg(long, default_value = "0.999", value_parser = decay)]
    pub ema: f64,
    /// Decides the initialisation, the order of the images, the timesteps and the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Training images [default: all, 1000 of the bundled]
    #[arg(long, value_parser = args::count)]
    pub train_limit: Option<usize>,
    /// Test images [default: all, 200 of the bundled]
    #[arg(long, value_parser = args::count)]
    pub test_limit: Option<usize>,
    /// Epochs from one grid of samples to the next
    #[arg(long, default_value = "1", value_parser = args::count)]
    pub sample_every: usize,
    /// Samples in a grid; 0 for no grids
    #[arg(long, default_value = "16")]
    pub samples: usize,
    /// Timesteps of a sample in a grid, by DDIM [default: 25, or all if there are fewer]
    #[arg(long, value_parser = args::count)]
    pub sample_steps: Option<usize>,
    /// Where the network runs
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Device,
    /// Threads [default: one a core]
    #[arg(long, value_parser = args::threads)]
    pub threads: Option<usize>,
    #[command(flatten, next_help_heading = "How to update the weights")]
    pub optimization: Optimization,
    #[command(flatten, next_help_heading = "The run")]
    pub run: RunArgs,
}

impl Args {
    pub fn process(&self) -> Process {
        Process {
            timesteps: self.timesteps(),
            beta_schedule: self.beta_schedule,
            parameterization: self.parameterization,
        }
    }

    /// Arxiv 2207.12598 found 0.1 to 0.2 the best.
    pub fn class_dropout(&self) -> f64 {
        self.class_dropout.unwrap_or(0.1)
    }

    pub fn sample_steps(&self) -> usize {
        self.sample_steps.unwrap_or(25.min(self.timesteps()))
    }

    /// The paper's (Table 3), or a few.
    pub fn epochs(&self) -> usize {
        self.epochs.unwrap_or(match (self.task, &self.data) {
            (Task::FashionMnist, None) => 2,
            (Task::CelebA, _) => 200,
            (Task::Mnist, _) => 300,
            _ => 500,
        })
    }

    pub fn batch_size(&self) -> usize {
        let usual = if self.data.is_some() { 128 } else { 64 };
        self.batch_size.unwrap_or(usual)
    }

    pub fn lr(&self) -> f64 {
        let is_celeba = self.task == Task::CelebA;
        self.lr.unwrap_or(if is_celeba { 2e-4 } else { 1e-3 })
    }

    fn timesteps(&self) -> usize {
        let is_celeba = self.task == Task::CelebA;
        self.timesteps.unwrap_or(if is_celeba { 1000 } else { 200 })
    }
}

/// The tasks that there is a U-Net for.
fn task(text: &str) -> Result<Task, String> {
    match text.parse() {
        Ok(task @ (Task::FashionMnist | Task::Mnist | Task::CelebA)) => Ok(task),
        _ => Err("must be fashion-mnist, mnist or celeba".into()),
    }
}

fn decay(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(decay) if (0.0..1.0).contains(&decay) => Ok(decay),
        _ => Err("must be at least 0 and less than 1".into()),
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("must be a number in 0..=1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_out_of_range_name_the_value_and_the_range() {
        for (flag, value, range) in [
            ("--task", "imagenet", "fashion-mnist, mnist or celeba"),
            ("--ema", "1", "less than 1"),
            ("--ema", "nan", "less than 1"),
            ("--schedule", "zigzag", "paper"),
            ("--schedule", "constant,drop=1.2", "1.2"),
            ("--beta-schedule", "steep", "cosine"),
            ("--parameterization", "y", "eps"),
            ("--loss", "l3", "l1"),
            ("--class-dropout", "1.5", "0..=1"),
            ("--timesteps", "0", "at least 1"),
            ("--samples", "-1", "--samples"),
            ("--fit", "crop", "resize, keep"),
        ] {
            let arg = format!("{flag}={value}");
            let err = Args::try_parse_from(["ddpm_train", &arg]).unwrap_err();
            let text = err.to_string();
            assert!(text.contains(value) && text.contains(range), "{text}");
            assert!(text.contains(flag), "{text}");
        }
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused() {
        for flags in [&["--class-dropout=0.2"][..], &["--init=a", "--resume=b"]] {
            assert!(Args::try_parse_from(["x"].iter().chain(flags)).is_err());
        }
    }

    #[test]
    fn the_papers_settings_are_the_defaults() {
        let of = |flags: &[&str]| {
            let args = Args::try_parse_from(["x"].iter().chain(flags)).unwrap();
            let process = args.process().timesteps;
            (args.lr(), process, args.epochs(), args.batch_size())
        };
        assert_eq!(of(&["--task=mnist", "--data=x"]), (1e-3, 200, 300, 128));
        assert_eq!(of(&["--data=x"]), (1e-3, 200, 500, 128));
        assert_eq!(of(&["--task=celeba", "--data=x"]), (2e-4, 1000, 200, 128));
        assert_eq!(of(&[]), (1e-3, 200, 2, 64));
    }
}
