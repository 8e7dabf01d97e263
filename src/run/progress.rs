//! How a run goes, on standard error: a bar on a terminal, a line every half minute elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::say;
use crate::train::{BatchReport, EpochReport, Observer};

/// The time from one line to the next.
const PAUSE: Duration = Duration::from_secs(30);

/// Shows the epoch that is running.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    /// Another rank shows it.
    is_silent: bool,
    epochs: u64,
    seconds: f64,
    images: usize,
    loss: f64,
    last_line: Instant,
}

impl Progress {
    /// For a run up to `epochs` epochs.
    pub fn new(epochs: u64) -> Self {
        Self {
            bar: std::io::stderr().is_terminal().then(bar),
            is_silent: false,
            epochs,
            seconds: 0.0,
            images: 0,
            loss: 0.0,
            last_line: Instant::now(),
        }
    }

    /// One that shows nothing.
    pub(super) fn silent() -> Self {
        Self {
            bar: None,
            is_silent: true,
            ..Self::new(0)
        }
    }

    pub(super) fn set_epochs(&mut self, epochs: u64) {
        self.epochs = epochs;
    }

    /// Says what else takes time.
    pub fn say(&self, what: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }

    /// Prints a line of results on standard output, above the bar if there is one.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None if self.is_silent => {}
            None => say(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = "{prefix} [{bar:30}] {pos}/{len}  {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

impl Observer for Progress {
    fn batch(&mut self, report: &BatchReport) {
        if report.batch == 0 {
            (self.images, self.seconds, self.loss) = (0, 0.0, 0.0);
        }
        self.images += report.images;
        self.seconds += report.seconds.total();
        let rate = self.images as f64 / self.seconds.max(1e-9);
        // Smoothed over about ten batches.
        let weight = 1.0 / (report.batch + 1).min(10) as f64;
        self.loss += weight * (report.loss - self.loss);
        let epoch = format!("epoch {}/{}", report.epoch + 1, self.epochs);
        let state = format!(
            "loss {:.3}  {rate:.0} images/s  drop rate {}",
            self.loss, report.drop_rate
        );
        let (done, all) = (report.batch + 1, report.batches);
        match &self.bar {
            Some(bar) => {
                bar.set_length(all as u64);
                bar.set_prefix(epoch);
                bar.set_position(done as u64);
                bar.set_message(state);
            }
            None if self.last_line.elapsed() >= PAUSE && !self.is_silent => {
                self.last_line = Instant::now();
                let _ = writeln!(std::io::stderr(), "{epoch}  {done}/{all}  {state}");
            }
            None => {}
        }
    }

    fn epoch(&mut self, _: &EpochReport) {
        self.say("testing");
    }
}
