//! A run in a folder of its own: its checkpoints, its records, its progress on the terminal, and a clean
//! end when it is interrupted.
//!
//! ```no_run
//! use ssprop::data::BatchLoader;
//! use ssprop::prelude::*;
//! use ssprop::run::{Run, RunConfig, RunOptions};
//!
//! type Net = (SparseConv2D<1, 8, 3, 2, 1>, ReLU, GlobalAvgPool, Linear<8, 10>);
//!
//! fn train() -> ssprop::Result<()> {
//!     let (images, test) = ssprop::data::bundled()?;
//!     let (train, test) = (BatchLoader::new(&images, 32)?.shuffle(0), BatchLoader::new(&test, 100)?);
//!     let dev = Cpu::seed_from_u64(0);
//!     let mut trainer = Trainer::new(dev.build_module::<Net, f32>(), AdamConfig::adam())?
//!         .with_schedule(Schedule::alternating(DropRate::new(0.8)?))?;
//!
//!     let config = RunConfig::new("a small CNN").fixed("seed", 0).keep_best_by("test_accuracy");
//!     let mut run = Run::start("runs/small", RunOptions::default(), config)?;
//!     run.resume(&mut trainer)?;
//!     while let Some(epoch) = run.train(&mut trainer, 10, |trainer, observer| {
//!         trainer.train_part::<1, 28, 28, 10>(&dev, &train, observer)
//!     })? {
//!         let found = trainer.evaluate::<1, 28, 28, 10>(&dev, &test)?;
//!         let measured = [("test_loss", found.loss), ("test_accuracy", found.accuracy())];
//!         run.record(&trainer, &epoch, &measured)?;
//!     }
//!     println!("{}", run.finish()?);
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     ssprop::run::exit_code(train())
//! }
//! ```
//!
//! The folder then holds
//!
//! | file | |
//! |---|---|
//! | `checkpoint.safetensors` | all that training goes on from, also from within an epoch |
//! | `checkpoint.previous.safetensors` | the one before, for the case that the other is damaged |
//! | `best.safetensors` | that of the [best](RunConfig::keep_best_by) epoch, from which a run may be [stopped early](RunConfig::stop_after) |
//! | `epoch-0007.safetensors` and so on | those of the [last](RunOptions::keep_last) epochs, if asked for |
//! | `metrics.csv`, `metrics.jsonl` | a [`Record`] an epoch |
//! | `events.out.tfevents...` | the same for TensorBoard |
//! | `curves.svg` | loss, accuracy and time by epoch |
//! | `config.json` | what was run: the configuration, versions, the machine |
//!
//! At SIGINT and SIGTERM the run is saved and ends with [`Error::Interrupted`];
//! a second signal ends it at once. What cannot be printed (the terminal is gone, the log's disk is full)
//! does not end it.

mod checkpoints;
mod config;
mod confusion;
mod curves;
mod energy;
mod epochs;
mod folder;
mod history;
#[doc(hidden)]
pub mod plot;
mod profile;
mod progress;
mod record;
mod results;
mod session;
mod signals;
mod tensorboard;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::threads::launched;

pub use checkpoints::Resumable;
pub use config::{RunConfig, RunOptions};
pub use confusion::confusion_svg;
pub use folder::{prepare_file, Claim};
pub use history::read_records;
pub use progress::Progress;
pub use record::Record;
pub use session::Run;

/// What the examples' own figures and tests of damaged inputs use too. No part of the API.
#[doc(hidden)]
pub mod internals {
    pub use super::checkpoints::{resume, save};
}

/// Prints a line, unless this process is another than the first of those that `mpirun` has started. A
/// standard output that is gone or full is no reason to end a training.
pub fn say(line: impl Display) {
    if launched().is_none_or(|launched| launched.rank == 0) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// Prints an error on standard error, and gives the program's exit status: 0, 1 for an error, 128 and the
/// signal's number for [`Error::Interrupted`].
pub fn exit_code<T>(result: Result<T>) -> ExitCode {
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(err) => {
            let _ = writeln!(std::io::stderr(), "error: {err}");
            match err {
                Error::Interrupted { signal, .. } => ExitCode::from(128 + signal),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
