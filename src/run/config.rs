//! What a run is, and where its files go.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

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
}

/// What a run is: its title, and the values that decide its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunConfig {
    pub(super) title: String,
    pub(super) fixed: Vec<(String, String)>,
    pub(super) changeable: Vec<(String, String)>,
    pub(super) best: Option<&'static str>,
}

impl RunConfig {
    /// A run that its curves call `title`.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            fixed: Vec::new(),
            changeable: Vec::new(),
            best: None,
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

    /// Keeps the checkpoint of the epoch with the largest value of this name, the first of equals.
    pub fn keep_best_by(mut self, name: &'static str) -> Self {
        self.best = Some(name);
        self
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &(String, String)> {
        self.fixed.iter().chain(&self.changeable)
    }
}
