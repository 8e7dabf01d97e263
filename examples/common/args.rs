//! Values of flags that are checked when they are read.

use std::path::PathBuf;
use std::time::Duration;

use ssprop::prelude::DropRate;
use ssprop::run::RunOptions;
use ssprop::sparsity::{self, Span};

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
    /// Print at the end where the time of a training step went, operation by operation
    #[arg(long)]
    pub profile: bool,
}

impl RunArgs {
    pub fn options(&self) -> RunOptions {
        RunOptions {
            out: self.out.clone(),
            overwrite: self.overwrite,
            resume: self.resume.clone(),
            save_every: (self.save_every > Duration::ZERO).then_some(self.save_every),
            keep_last: self.keep_last,
            profile: self.profile,
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
    /// From dense in the first epoch to the drop rate in the last, in equal steps
    Linear,
}

impl Schedule {
    /// The schedule of `epochs` epochs whose sparse ones drop at the rate `sparse`.
    ///
    /// # Errors
    /// [`Error::Parameter`](ssprop::Error::Parameter) for 0 epochs.
    pub fn with(self, sparse: DropRate, epochs: usize) -> ssprop::Result<sparsity::Schedule> {
        Ok(match self {
            Self::Bar => sparsity::Schedule::alternating(sparse),
            Self::Dense => sparsity::Schedule::DENSE,
            Self::Constant => sparsity::Schedule::constant(sparse),
            Self::Linear => sparsity::Schedule::linear(sparse, Span::epochs(epochs as u64)?),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Args {
        #[arg(long, value_parser = count)]
        epochs: Option<usize>,
        #[arg(long, value_parser = lr)]
        lr: Option<f64>,
        #[arg(long, value_parser = drop_rate)]
        drop_rate: Option<DropRate>,
        #[arg(long, value_enum)]
        schedule: Option<Schedule>,
        #[arg(long, value_enum)]
        device: Option<Device>,
        #[arg(long, value_parser = threads)]
        threads: Option<usize>,
        #[command(flatten)]
        run: RunArgs,
    }

    #[test]
    fn flags_out_of_range_name_the_value_and_the_range() {
        for (flag, value, range) in [
            ("--drop-rate", "1.2", "at least 0 and less than 1"),
            ("--drop-rate", "x", "must be a number"),
            ("--epochs", "0", "at least 1"),
            ("--threads", "0", "in 1..=1024"),
            ("--lr", "-1", "greater than 0"),
            ("--lr", "nan", "greater than 0"),
            ("--schedule", "zigzag", "bar, dense, constant"),
            ("--device", "tpu", "cpu, cuda"),
            ("--keep-last", "-1", "--keep-last"),
            ("--save-every", "-1", "number of minutes"),
        ] {
            let arg = format!("{flag}={value}");
            let err = Args::try_parse_from(["x", &arg]).unwrap_err();
            let text = err.to_string();
            assert!(text.contains(value) && text.contains(range), "{text}");
            assert!(text.contains(flag), "{text}");
            assert_eq!(err.exit_code(), 2);
        }
    }

    #[test]
    fn schedules() {
        let sparse = DropRate::new(0.8).unwrap();
        let rates = |s: Schedule| {
            let schedule = s.with(sparse, 3).unwrap();
            [0, 1, 2].map(|epoch| schedule.drop_rate(epoch, 0).rate())
        };
        assert_eq!(rates(Schedule::Bar), [0.0, 0.8, 0.0]);
        assert_eq!(rates(Schedule::Dense), [0.0; 3]);
        assert_eq!(rates(Schedule::Constant), [0.8; 3]);
        assert_eq!(rates(Schedule::Linear), [0.0, 0.4, 0.8]);
    }
}
