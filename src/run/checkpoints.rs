//! A run's checkpoints: the newest, the one before, the best, and those of the last epochs.

use std::fmt::Arguments;
use std::path::{Path, PathBuf};

use dfdx::nn::TensorCollection;

use super::folder::{folder_of_checkpoint, is_same};
use super::record::Record;
use super::{epochs, history};
use super::{say, RunConfig};
use crate::backend::Backend;
use crate::checkpoint::{write_file, Metadata};
use crate::diffusion::DiffusionTrainer;
use crate::error::{Error, Result};
use crate::optim::Optimizer;
use crate::train::Trainer;

pub(super) const NEWEST: &str = "checkpoint.safetensors";
pub(super) const PREVIOUS: &str = "checkpoint.previous.safetensors";
pub(super) const BEST: &str = "best.safetensors";
/// The key of the records in a checkpoint's metadata.
const HISTORY: &str = "history";

/// A training that can be saved and resumed.
pub trait Resumable {
    /// The number of epochs done.
    fn epoch(&self) -> u64;

    /// The batches done of an unfinished epoch.
    fn batches_done(&self) -> usize;

    /// Saves everything that training goes on from.
    ///
    /// # Errors
    /// As [`Trainer::save`].
    fn save(&self, path: &Path, metadata: &Metadata) -> Result<()>;

    /// Goes back to what [`save`](Self::save) saved.
    ///
    /// # Errors
    /// As [`Trainer::resume`]; the training is then as it was.
    fn resume(&mut self, path: &Path) -> Result<Metadata>;
}

macro_rules! resumable {
    ($($Trainer:ident),*) => {$(
        impl<M, D, O> Resumable for $Trainer<M, D, O>
        where
            M: TensorCollection<f32, D>,
            D: Backend<f32>,
            O: Optimizer<M, f32, D>,
        {
            fn epoch(&self) -> u64 {
                self.epoch()
            }

            fn batches_done(&self) -> usize {
                self.batches_done()
            }

            fn save(&self, path: &Path, metadata: &Metadata) -> Result<()> {
                self.save(path, metadata)
            }

            fn resume(&mut self, path: &Path) -> Result<Metadata> {
                self.resume(path)
            }
        }
    )*};
}
resumable!(Trainer, DiffusionTrainer);

/// Saves a training as the newest checkpoint in a folder, where the one before stays beside it.
pub fn save<T: Resumable + ?Sized>(
    folder: &Path,
    training: &T,
    config: &RunConfig,
    records: &[Record],
) -> Result<()> {
    let newest = folder.join(NEWEST);
    if newest.exists() {
        second_name(&newest, &folder.join(PREVIOUS))?;
    }
    let mut metadata: Metadata = config
        .all()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    metadata.insert(HISTORY.to_owned(), history::to_csv(records));
    training.save(&newest, &metadata)
}

/// Gives a checkpoint a second name, by which it stays when the first becomes another's.
fn second_name(newest: &Path, name: &Path) -> Result<()> {
    let link = name.with_extension("link");
    let failed = |err| Error::io(name, "keep a checkpoint", err);
    match std::fs::remove_file(&link) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    // Some file systems have no second names.
    std::fs::hard_link(newest, &link)
        .or_else(|_| std::fs::copy(newest, &link).map(drop))
        .and_then(|()| std::fs::rename(&link, name))
        .map_err(failed)
}

/// Goes back to the checkpoint at a path (or in that folder), or if it is damaged to the one before it,
/// and returns the records of its epochs.
pub fn resume<T: Resumable + ?Sized>(
    path: &Path,
    training: &mut T,
    config: &RunConfig,
) -> Result<Vec<Record>> {
    resume_saying(path, training, config, &|line| say(line)).map(|(records, _)| records)
}

/// [`resume`], which tells `say` what there is to say, and returns the file too.
pub(super) fn resume_saying<T: Resumable + ?Sized>(
    path: &Path,
    training: &mut T,
    config: &RunConfig,
    say: &dyn Fn(Arguments<'_>),
) -> Result<(Vec<Record>, PathBuf)> {
    let (path, previous) = files(path);
    let (found, path) = match (training.resume(&path), previous) {
        (Ok(found), _) => (found, path),
        (Err(err), None) => return Err(err),
        (Err(err), Some(previous)) => match training.resume(&previous) {
            Ok(found) => {
                say(format_args!("{err}: going on from {}.", previous.display()));
                (found, previous)
            }
            Err(_) => return Err(err),
        },
    };
    let format = |what: String| Error::Format {
        path: path.clone(),
        what,
    };
    let saved = |key: &str| found.get(key).map_or("unknown", String::as_str);
    for (key, value) in &config.fixed {
        if saved(key) != value {
            let what = format!(
                "a checkpoint of another run: {key} = {}, now {value}",
                saved(key)
            );
            return Err(format(what));
        }
    }
    for (key, value) in &config.changeable {
        if saved(key) != value {
            let was = saved(key);
            say(format_args!(
                "Unlike in the resumed run: {key} is {value}, was {was}."
            ));
        }
    }
    found
        .get(HISTORY)
        .and_then(|csv| history::from_csv(csv))
        .filter(|records| records.len() as u64 == training.epoch())
        .ok_or_else(|| format("the records of its epochs are missing or damaged".into()))
        .map(|records| (records, path.clone()))
}

/// The checkpoint that a path means, and if that is a run's newest the one before it.
fn files(path: &Path) -> (PathBuf, Option<PathBuf>) {
    let file = match path.is_dir() {
        true => path.join(NEWEST),
        false => path.to_owned(),
    };
    let is_newest = file.file_name() == Some(NEWEST.as_ref());
    let previous = is_newest.then(|| file.with_file_name(PREVIOUS));
    (file, previous)
}

/// Copies the best checkpoint so far to a run's folder. It lies beside the one that is resumed; if that is not the
/// newest, best.safetensors may be of an epoch after it, and it is taken from the kept ones.
pub(super) fn bring_best(
    resumed: &Path,
    to: &Path,
    best_epoch: u64,
    say: &dyn Fn(Arguments<'_>),
) -> Result<()> {
    let from = folder_of_checkpoint(resumed);
    let is_newest = [NEWEST, PREVIOUS]
        .map(Some)
        .contains(&resumed.file_name().and_then(|n| n.to_str()));
    let kept = from.join(epochs::file(best_epoch));
    let best = match !is_newest && kept.exists() {
        true => kept,
        false => {
            if !is_newest {
                say(format_args!(
                    "There is no {}: {BEST} may be of an epoch after the one that is gone back to.",
                    kept.display()
                ));
            }
            if is_same(&from, to) {
                return Ok(());
            }
            from.join(BEST)
        }
    };
    let bytes =
        std::fs::read(&best).map_err(|err| Error::io(&best, "read the best checkpoint", err))?;
    write_file(to.join(BEST), &bytes)
}

/// Makes the newest checkpoint the best one.
pub(super) fn keep_best(folder: &Path) -> Result<()> {
    second_name(&folder.join(NEWEST), &folder.join(BEST))
}

/// Keeps the newest checkpoint as that of an epoch, and of such only those of the last `count` epochs: later ones are
/// of a run that was replaced, or gone back from.
pub(super) fn keep_epoch(folder: &Path, epoch: u64, count: u64) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    second_name(&folder.join(NEWEST), &folder.join(epochs::file(epoch)))?;
    for old in epochs::in_folder(folder)? {
        if old > epoch || epoch - old >= count {
            epochs::remove(folder, old)?;
        }
    }
    Ok(())
}
