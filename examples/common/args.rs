//! Values of flags that are checked when they are read.

use std::path::PathBuf;
use std::time::Duration;

use ssprop::run::RunOptions;
use ssprop::{prelude::DropRate, sparsity};

/// Where a run's files go, and what it begins with.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Where to write checkpoints, metrics and curves [default: a folder in runs/, with the first free
    /// number]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Replace an earlier run's results in --out
    #[arg(long, requires = "out")]
    pub overwrite: bool,
    /// The checkpoint of an earlier run to go on from, or its folder, with the same flags
    #[arg(long)]
    pub resume: Option<PathBuf>,
    /// Minutes from one checkpoint within an epoch to the next; 0 for none
    #[arg(long, default_value = "10", value_parser = minutes)]
    pub save_every: Duration,
    /// Keep the checkpoints of so many of the last epochs, as epoch-0001.safetensors and so on, and no others
    #[arg(long, default_value_t = 0)]
    pub keep_last: u64,
}

impl RunArgs {
    pub fn options(&self) -> RunOptions {
        RunOptions {
            out: self.out.clone(),
            overwrite: self.overwrite,
            resume: self.resume.clone(),
            save_every: (self.save_every > Duration::ZERO).then_some(self.save_every),
            keep_last: self.keep_last,
        }
    }
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse::<f64>().ok();
    let time = minutes.and_then(|minutes| Duration::try_from_secs_f64(60.0 * minutes).ok());
    time.ok_or_else(|| "must be a number of minutes, at least 0".into())
}

/// When the epochs are sparse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Schedule {
    /// Dense and sparse epochs in turn, the first dense
    Bar,
    /// Every epoch dense
    Dense,
    /// Every epoch sparse
    Constant,
}

impl Schedule {
    /// The schedule whose sparse epochs drop at the rate `sparse`.
    pub fn with(self, sparse: DropRate) -> sparsity::Schedule {
        match self {
            Self::Bar => sparsity::Schedule::alternating(sparse),
            Self::Dense => sparsity::Schedule::DENSE,
            Self::Constant => sparsity::Schedule::constant(sparse),
        }
    }
}

/// Whole numbers from 1.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("must be a whole number of at least 1".into()),
    }
}

/// Numbers of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=1024).contains(&n) => Ok(n),
        _ => Err("must be a whole number in 1..=1024".into()),
    }
}

/// Learning rates.
pub fn lr(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(lr) if lr > 0.0 && lr.is_finite() => Ok(lr),
        _ => Err("must be a finite number greater than 0".into()),
    }
}

/// Drop rates.
pub fn drop_rate(text: &str) -> Result<DropRate, String> {
    let rate = text.parse().map_err(|_| "must be a number".to_string())?;
    DropRate::new(rate).map_err(|_| "must be at least 0 and less than 1".into())
}
