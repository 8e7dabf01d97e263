//! The flags.

use std::path::PathBuf;

use clap::Parser;
use ssprop::data::Task;
use ssprop::diffusion::{BetaSchedule, Loss, Parameterization};
use ssprop::prelude::SchedulePlan;

use common::args::{self, RunArgs};
use common::ddpm::Process;

/// Train a U-Net to take noise from images, with a scheduled sparse backward pass
#[derive(Debug, Parser)]
pub struct Args {
    /// Data set: fashion-mnist, mnist (both 1x32x32) or celeba (3x64x64)
    #[arg(long, default_value = "fashion-mnist", value_parser = task)]
    pub task: Task,
    /// Its folder, or archive [default: the bundled part of Fashion-MNIST]
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Epochs of the whole run
    #[arg(long, default_value = "2", value_parser = args::count)]
    pub epochs: usize,
    /// Images in a batch
    #[arg(long, default_value = "64", value_parser = args::count)]
    pub batch_size: usize,
    /// Learning rate of AdamW
    #[arg(long, default_value = "0.001", value_parser = args::lr)]
    pub lr: f64,
    /// When how much is dropped: paper (every second epoch 80%), dense, "bar,drop=0.8,period=2"
    /// (every second step), and all else that train_classifier takes, also by layer
    #[arg(long, default_value = "paper")]
    pub schedule: SchedulePlan,
    /// Timesteps of the diffusion
    #[arg(long, default_value = "200", value_parser = args::count)]
    pub timesteps: usize,
    /// How the noise grows: linear, cosine, sqrt-linear or sqrt
    #[arg(long, default_value = "cosine")]
    pub beta_schedule: BetaSchedule,
    /// What the network predicts: eps (the noise), x0 (the image) or v
    #[arg(long, default_value = "eps")]
    pub parameterization: Parameterization,
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
    /// Threads [default: one a core]
    #[arg(long, value_parser = args::threads)]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub run: RunArgs,
}

impl Args {
    pub fn process(&self) -> Process {
        Process {
            timesteps: self.timesteps,
            beta_schedule: self.beta_schedule,
            parameterization: self.parameterization,
        }
    }

    pub fn sample_steps(&self) -> usize {
        self.sample_steps.unwrap_or(25.min(self.timesteps))
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
            ("--timesteps", "0", "at least 1"),
            ("--samples", "-1", "--samples"),
        ] {
            let arg = format!("{flag}={value}");
            let err = Args::try_parse_from(["ddpm_train", &arg]).unwrap_err();
            let text = err.to_string();
            assert!(text.contains(value) && text.contains(range), "{text}");
            assert!(text.contains(flag), "{text}");
        }
    }
}
