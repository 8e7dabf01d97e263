//! What a run is, and where its files go.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::train::EarlyStopping;

/// Where a run's files go, and what it begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// The folder; without it the first free one of the run's name, name-2, ...
    pub out: Option<PathBuf>,
    /// Whether an earlier run's files in `out` may be replaced.
    pub overwrite: bool,
    /// The checkpoint to go on from, or the folder that has it.
    pub resume: Option<PathBuf>,
    /// The time from one checkpoint within an epoch to the next; `None` for none.
    pub save_every: Option<Duration>,
    /// Of how many of the last epochs the checkpoints are kept, each as a file of its own: `epoch-0007.safetensors`.
    /// Older ones are removed, and later ones, if the run has gone back to an earlier epoch.
    pub keep_last: u64,
    /// Whether [`Run::finish`](super::Run::finish) also tells where the time of a training step went, operation by
    /// operation: [`profile`](crate::profile) is switched on while epochs are trained.
    pub profile: bool,
}

/// What a run is: its title, and the values that decide its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunConfig {
    pub(super) title: String,
    pub(super) fixed: Vec<(String, String)>,
    pub(super) changeable: Vec<(String, String)>,
    pub(super) noted: Vec<(String, String)>,
    pub(super) best: Option<Best>,
    pub(super) patience: Option<u64>,
}

/// By which an epoch is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Best {
    pub(super) name: &'static str,
    pub(super) smallest: bool,
}

impl RunConfig {
    /// A run that its curves call `title`.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            fixed: Vec::new(),
            changeable: Vec::new(),
            noted: Vec::new(),
            best: None,
            patience: None,
        }
    }

    /// A value that has to be the same when the run is resumed.
    pub fn fixed(mut self, key: impl Into<String>, value: impl Display) -> Self {
        self.fixed.push((key.into(), value.to_string()));
        self
    }

    /// A value that may be another when the run is resumed, which is then said.
    pub fn changeable(mut self, key: impl Into<String>, value: impl Display) -> Self {
        self.changeable.push((key.into(), value.to_string()));
        self
    }

    /// A value that checkpoints have for others, and that is not compared when the run is resumed: what the
    /// [input](crate::data::InputSpec) is, say.
    pub fn noted(mut self, key: impl Into<String>, value: impl Display) -> Self {
        self.noted.push((key.into(), value.to_string()));
        self
    }

    /// Keeps the checkpoint of the epoch with the largest value of this name, the first of equals.
    pub fn keep_best_by(mut self, name: &'static str) -> Self {
        self.best = Some(Best {
            name,
            smallest: false,
        });
        self
    }

    /// Keeps the checkpoint of the epoch with the smallest value of this name, the first of equals.
    pub fn keep_best_by_least(mut self, name: &'static str) -> Self {
        self.best = Some(Best {
            name,
            smallest: true,
        });
        self
    }

    /// Ends the run after `patience` epochs in a row of which none was the best.
    pub fn stop_after(mut self, patience: u64) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Nothing seen yet of what tells the best epoch, if anything does.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a patience of 0, or one without a value to follow.
    pub(super) fn follow(&self) -> Result<Option<EarlyStopping>> {
        let patience = self.patience.unwrap_or(u64::MAX);
        match (self.best, self.patience) {
            (Some(best), _) if best.smallest => EarlyStopping::smallest(patience).map(Some),
            (Some(_), _) => EarlyStopping::largest(patience).map(Some),
            (None, Some(patience)) => {
                let range = "left out, or go with keep_best_by";
                Err(Error::parameter("stop_after", patience, range))
            }
            (None, None) => Ok(None),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &(String, String)> {
        let all = self.fixed.iter().chain(&self.changeable);
        all.chain(&self.noted)
    }
}
