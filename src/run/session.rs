//! A run that is going on.

use std::fmt::Arguments;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::checkpoints::{self, Resumable, BEST, NEWEST, PREVIOUS};
use super::energy::Energy;
use super::folder::{folder_of_checkpoint, is_same, Claim};
use super::profile::Profile;
use super::record::Record;
use super::{curves, epochs, history, results, say, signals, tensorboard};
use super::{Progress, RunConfig, RunOptions};
use crate::checkpoint::{write_file, Metadata};
use crate::distributed::Communicator;
use crate::error::{Error, Result};
use crate::train::{BatchReport, EarlyStopping, EpochReport, Observer};

const METRICS: &str = "metrics.csv";
const CURVES: &str = "curves.svg";
/// Files that mark a folder as an earlier run's.
const RESULTS: [&str; 5] = [NEWEST, PREVIOUS, BEST, METRICS, CURVES];

/// A run in its folder. See [the module](super).
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    /// Of the rank that writes.
    _claim: Option<Claim>,
    communicator: Communicator,
    config: RunConfig,
    options: RunOptions,
    records: Vec<Record>,
    progress: Progress,
    energy: Energy,
    profile: Profile,
    /// Whether the next epoch may have begun before the run was resumed.
    is_resumed: bool,
    _listener: signals::Listener,
    start: Instant,
    last_save: Instant,
    events: PathBuf,
    epochs: u64,
}

impl Run {
    /// Begins a run: claims its folder, [`RunOptions::out`] or the first free one of `base`, `base`-2,
    /// ..., and listens to signals.
    ///
    /// # Errors
    /// As [`Claim::new`]; [`Error::Parameter`] for a patience of 0 epochs, or without a value that tells
    /// the best.
    pub fn start(base: impl AsRef<Path>, options: RunOptions, config: RunConfig) -> Result<Self> {
        Self::start_on(&Communicator::alone(), base, options, config)
    }

    /// [`start`](Self::start) of a run of several ranks: the first of them reads and writes the run's files
    /// and prints, the others need not see them. All make the same calls.
    ///
    /// # Errors
    /// As [`start`](Self::start); [`Error::Distributed`] if a rank is lost.
    pub fn start_on(
        communicator: &Communicator,
        base: impl AsRef<Path>,
        options: RunOptions,
        config: RunConfig,
    ) -> Result<Self> {
        communicator.together(|| config.follow())?;
        let claim = match communicator.is_first() {
            true => Some(communicator.together(|| {
                let claim = Claim::new(base.as_ref(), &options, &RESULTS)?;
                say(format_args!("Results go to {}.", claim.path().display()));
                remove_events(claim.path())?;
                let resumed = options.resume.as_deref().map(folder_of_checkpoint);
                if resumed.is_none_or(|resumed| !is_same(&resumed, claim.path())) {
                    epochs::remove_all(claim.path())?;
                }
                write_file(
                    claim.path().join("config.json"),
                    describe(&config).as_bytes(),
                )?;
                Ok(claim)
            })?),
            false => None,
        };
        let folder = claim.as_ref().map(|claim| claim.path().as_os_str());
        let folder = folder.map_or(Vec::new(), |path| path.as_encoded_bytes().to_vec());
        let folder = communicator.broadcast(folder)?;
        let folder = match &claim {
            Some(claim) => claim.path().to_owned(),
            None => PathBuf::from(String::from_utf8_lossy(&folder).into_owned()),
        };
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since_1970.map_or(0, |time| time.as_secs());
        let events = folder.join(format!("{}{seconds}", tensorboard::PREFIX));
        let now = Instant::now();
        Ok(Self {
            folder,
            progress: match claim {
                Some(_) => Progress::new(0),
                None => Progress::silent(),
            },
            _claim: claim,
            communicator: communicator.clone(),
            config,
            options,
            records: Vec::new(),
            energy: Energy::new(),
            profile: Profile::default(),
            is_resumed: false,
            _listener: signals::Listener::new(),
            start: now,
            last_save: now,
            events,
            epochs: 0,
        })
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The records of its epochs, those of before it was resumed too.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The progress on the terminal.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Goes back to the checkpoint of [`RunOptions::resume`], if there is one: whether it did. Where that
    /// is damaged it goes back to the one before, and says so.
    ///
    /// # Errors
    /// As [`Resumable::resume`]; [`Error::Format`] if it is a checkpoint of another run.
    pub fn resume<T: Resumable + ?Sized>(&mut self, training: &mut T) -> Result<bool> {
        let Some(path) = self.options.resume.clone() else {
            return Ok(false);
        };
        self.is_resumed = true;
        let ranks = self.communicator.clone();
        if !ranks.is_first() {
            let file = ranks.broadcast(Vec::new())?;
            self.records = ranks
                .together(|| {
                    let file = temporary(&file)?;
                    checkpoints::resume_saying(file.path(), training, &self.config, &|_| {})
                })?
                .0;
            return Ok(true);
        }
        let (records, file) = ranks.together(|| {
            let say = &|line: Arguments<'_>| say(line);
            checkpoints::resume_saying(&path, training, &self.config, say)
        })?;
        self.records = records;
        self.tell_file(&file)?;
        if let (Some(best), false) = (self.best_epoch()?, self.records.is_empty()) {
            let say = &|line: Arguments<'_>| say(line);
            ranks.on_first(|| checkpoints::bring_best(&file, self.folder(), best, say))?;
        }
        Ok(true)
    }

    /// Goes back to the checkpoint of the [best](RunConfig::keep_best_by) epoch, and returns its metadata.
    ///
    /// # Errors
    /// As [`Resumable::resume`].
    pub fn resume_best<T: Resumable + ?Sized>(&self, training: &mut T) -> Result<Metadata> {
        let ranks = &self.communicator;
        if !ranks.is_first() {
            let file = ranks.broadcast(Vec::new())?;
            return ranks.together(|| training.resume(temporary(&file)?.path()));
        }
        self.tell_file(&self.best())?;
        ranks.together(|| training.resume(&self.best()))
    }

    /// Tells the other ranks what is in a file, which they may not see.
    fn tell_file(&self, path: &Path) -> Result<()> {
        let ranks = &self.communicator;
        if ranks.is_alone() {
            return Ok(());
        }
        let read = || std::fs::read(path).map_err(|err| Error::io(path, "read", err));
        ranks.broadcast(ranks.together(read)?).map(drop)
    }

    /// Trains the next epoch, if fewer than `epochs` are done and the run's
    /// [patience](RunConfig::stop_after) is not at its end, by calls of `part`
    /// ([`train_part`](crate::train::Trainer::train_part)), and saves between them as
    /// [`RunOptions::save_every`] says.
    ///
    /// # Errors
    /// Those of `part`; [`Error::Interrupted`] after SIGINT or SIGTERM, once the run is saved.
    pub fn train<T: Resumable + ?Sized>(
        &mut self,
        training: &mut T,
        epochs: u64,
        mut part: impl FnMut(&mut T, &mut dyn Observer) -> Result<Option<EpochReport>>,
    ) -> Result<Option<EpochReport>> {
        self.epochs = epochs;
        self.progress.set_epochs(epochs);
        // The first rank may know more of its records than the others.
        let over = vec![u8::from(self.is_over()?)];
        if training.epoch() >= epochs || self.communicator.broadcast(over)? == [1] {
            return Ok(None);
        }
        if !self.options.profile {
            return self.train_in_parts(training, &mut part);
        }
        crate::profile::start();
        let report = self.train_in_parts(training, &mut part);
        let spent = crate::profile::stop();
        if let Ok(Some(report)) = &report {
            // What was before is in the report, but not in what was spent.
            if !std::mem::take(&mut self.is_resumed) {
                self.profile.add(report, &spent);
            }
        }
        report
    }

    fn train_in_parts<T: Resumable + ?Sized>(
        &mut self,
        training: &mut T,
        part: &mut impl FnMut(&mut T, &mut dyn Observer) -> Result<Option<EpochReport>>,
    ) -> Result<Option<EpochReport>> {
        loop {
            let due = self.options.save_every.map(|every| self.last_save + every);
            let mut watch = Watch {
                progress: &mut self.progress,
                due,
            };
            if let Some(report) = part(training, &mut watch)? {
                return Ok(Some(report));
            }
            self.save(training)?;
            self.end_if_interrupted(training)?;
        }
    }

    /// Records an epoch and the metrics `measured` after it, by name: writes the metrics and the curves,
    /// then the checkpoint, and prints a line.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be written; [`Error::Interrupted`] after SIGINT or SIGTERM.
    pub fn record<T: Resumable + ?Sized>(
        &mut self,
        training: &T,
        report: &EpochReport,
        measured: &[(&str, f64)],
    ) -> Result<()> {
        let mut record = Record::new(report, measured);
        record.0.extend(
            self.energy
                .used()
                .map(|joules| ("joules".to_owned(), joules)),
        );
        let line = results::line(&record, self.epochs);
        self.records.push(record);
        let is_best = self.followed()?.is_some_and(|(_, is_best)| is_best);
        let mark = if is_best { ", the best" } else { "" };
        self.progress.line(&format!("{line}{mark}"));
        self.progress.say("saving");
        self.write_results()?;
        self.save(training)?;
        let (epoch, last) = (training.epoch(), self.options.keep_last);
        self.communicator.on_first(|| {
            if is_best {
                checkpoints::keep_best(self.folder())?;
            }
            checkpoints::keep_epoch(self.folder(), epoch, last)
        })?;
        self.end_if_interrupted(training)
    }

    /// What tells the best epoch, after all epochs so far, and whether the last one is the best. The first
    /// is, whatever its value.
    fn followed(&self) -> Result<Option<(EarlyStopping, bool)>> {
        let Some((mut values, best)) = self.config.follow()?.zip(self.config.best) else {
            return Ok(None);
        };
        let mut is_best = false;
        for (i, record) in self.records.iter().enumerate() {
            let value = record.get(best.name).unwrap_or(f64::NAN);
            is_best = values.is_better(value) || i == 0;
        }
        Ok(Some((values, is_best)))
    }

    /// The best of the epochs so far, counted from 1.
    fn best_epoch(&self) -> Result<Option<u64>> {
        let Some((mut values, best)) = self.config.follow()?.zip(self.config.best) else {
            return Ok(None);
        };
        let mut found = 1;
        for (epoch, record) in (1..).zip(&self.records) {
            if values.is_better(record.get(best.name).unwrap_or(f64::NAN)) {
                found = epoch;
            }
        }
        Ok(Some(found))
    }

    /// Whether no epoch was the best for as long as the run's patience lasts; says so.
    fn is_over(&self) -> Result<bool> {
        let over = self.followed()?.filter(|(values, _)| values.is_over());
        if let Some(((values, _), best)) = over.zip(self.config.best) {
            self.progress.line(&format!(
                "Stopped early: no better {} than {} in {} epochs.",
                best.name,
                values.best().unwrap_or(f64::NAN),
                self.config.patience.unwrap_or(0),
            ));
            return Ok(true);
        }
        Ok(false)
    }

    /// The end: writes metrics and curves once more (those of a run that was resumed at its end too), and
    /// returns the table of the epochs, with those of [`RunOptions::profile`] below it.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be written.
    pub fn finish(&self) -> Result<String> {
        self.progress.finish();
        self.write_results()?;
        Ok(results::table(&self.records) + &self.profile.table())
    }

    /// What sparse epochs saved. `dense` gives the backward FLOPs of a dense epoch of so many images
    /// ([`ModelCost::per_epoch`](crate::nn::ModelCost::per_epoch)).
    pub fn savings(&self, dense: impl Fn(usize) -> f64) -> String {
        let images = self.records.iter().filter_map(|r| r.get("train_images"));
        let flops: f64 = images.map(|images| dense(images as usize)).sum();
        results::savings(&self.records, flops)
    }

    /// Where the results are, and how long the run took since it was started or resumed.
    pub fn written(&self) -> String {
        let best = self.config.best.map_or("", |_| ", best.safetensors");
        format!(
            "Written to {}: curves.svg, metrics.csv, checkpoint.safetensors{best}. {:.0} s in all.",
            self.folder().display(),
            self.start.elapsed().as_secs_f64(),
        )
    }

    /// The checkpoint of the best epoch.
    pub fn best(&self) -> PathBuf {
        self.folder().join(BEST)
    }

    fn save<T: Resumable + ?Sized>(&mut self, training: &T) -> Result<()> {
        let save = || checkpoints::save(self.folder(), training, &self.config, &self.records);
        self.communicator.on_first(save)?;
        self.last_save = Instant::now();
        Ok(())
    }

    fn end_if_interrupted<T: Resumable + ?Sized>(&self, training: &T) -> Result<()> {
        // The launcher sends it to every rank, but not at once.
        let found = self
            .communicator
            .gather(vec![signals::came().unwrap_or(0)])?;
        let Some(signal) = found.into_iter().flatten().find(|&signal| signal > 0) else {
            return Ok(());
        };
        // A run that is done needs no more.
        if training.epoch() >= self.epochs {
            return Ok(());
        }
        self.progress.finish();
        Err(Error::Interrupted {
            signal,
            epoch: training.epoch(),
            batch: training.batches_done(),
            path: self.folder().join(NEWEST),
        })
    }

    fn write_results(&self) -> Result<()> {
        self.communicator.on_first(|| self.write_files())
    }

    fn write_files(&self) -> Result<()> {
        let (folder, records) = (self.folder(), &self.records);
        write_file(folder.join(METRICS), history::to_csv(records).as_bytes())?;
        write_file(
            folder.join("metrics.jsonl"),
            history::to_jsonl(records).as_bytes(),
        )?;
        write_file(
            folder.join(CURVES),
            curves::svg(&self.config.title, records).as_bytes(),
        )?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0.0, |time| time.as_secs_f64());
        write_file(&self.events, &tensorboard::event_file(records, now))
    }
}

/// A file with these bytes, as long as it lives.
fn temporary(bytes: &[u8]) -> Result<tempfile::NamedTempFile> {
    let failed = |err| Error::io(&std::env::temp_dir(), "write a temporary file in", err);
    let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    Ok(file)
}

/// Removes the event files of before, whose records are written again: TensorBoard reads all of a folder.
fn remove_events(folder: &Path) -> Result<()> {
    let failed = |err| Error::io(folder, "look for event files in", err);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(tensorboard::PREFIX)
        {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|err| Error::io(&path, "remove", err))?;
        }
    }
    Ok(())
}

/// The configuration, versions and the machine, as JSON.
fn describe(config: &RunConfig) -> String {
    let values: serde_json::Map<String, serde_json::Value> = config
        .all()
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect();
    let json = serde_json::json!({
        "title": config.title,
        "configuration": values,
        "ssprop": env!("CARGO_PKG_VERSION"),
        "machine": {
            "system": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
            "instructions": crate::kernels::cpu::simd::Isa::detect().name(),
            "threads": rayon::current_num_threads(),
        },
    });
    format!("{json:#}\n")
}

/// The progress, and a pause where the run is to be saved.
struct Watch<'a> {
    progress: &'a mut Progress,
    due: Option<Instant>,
}

impl Observer for Watch<'_> {
    fn batch(&mut self, report: &BatchReport) {
        self.progress.batch(report);
    }

    fn epoch(&mut self, report: &EpochReport) {
        self.progress.epoch(report);
    }

    fn pause(&mut self) -> bool {
        signals::came().is_some() || self.due.is_some_and(|due| Instant::now() >= due)
    }
}
