//! Progress bars on a terminal, nothing elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use ssprop::diffusion::{SampleRun, SampleStep};
use ssprop::run::say;

/// Shows how many of a number of runs are done, on standard error, and how long the rest will take.
pub struct Runs {
    bar: Option<ProgressBar>,
}

impl Runs {
    pub fn new(total: usize) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::new(total as u64);
            let style = "run {pos}/{len} [{bar:30}]  {elapsed} of about {duration}  {msg}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar }
    }

    /// Says which run begins.
    pub fn begin(&self, what: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }

    /// A run is done.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Prints a line of results, above the bar if there is one.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
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

/// Shows how far the drawing of samples is, on standard error if that is a terminal.
pub struct Sampling {
    bar: ProgressBar,
    run: SampleRun,
}

impl Sampling {
    /// For a sampler that visits `steps` timesteps.
    pub fn new(run: SampleRun, steps: usize) -> Self {
        let batches = run.count.div_ceil(run.batch.max(1));
        let bar = ProgressBar::new((batches * steps) as u64);
        let style = "timestep {pos}/{len} [{bar:30}]  {elapsed} of about {duration}  {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, run }
    }

    pub fn step(&self, done: &SampleStep<'_>) {
        let before = done.first / self.run.batch.max(1) * done.steps;
        if done.step == 0 {
            let last = done.first + done.images;
            let images = format!("images {}-{last} of {}", done.first + 1, self.run.count);
            self.bar.set_message(images);
        }
        self.bar.set_position((before + done.step) as u64);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
