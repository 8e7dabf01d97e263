//! The folder that a run's files go to, which no other run may use meanwhile.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::config::RunOptions;
use super::epochs;
use crate::checkpoint::remove_remains;
use crate::error::{Error, Result};

/// The file in a run's folder that is locked while the run goes on.
const LOCK: &str = ".lock";

/// A folder that belongs to this run until the claim is dropped, or the process ends.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    _lock: File,
}

impl Claim {
    /// The folder of a run whose `results` are these files, made if it is not there: that of
    /// `options.out`, else that of the run that is resumed, else the first of `base`, `base`-2, ... that
    /// has no results and is not in use.
    ///
    /// # Errors
    /// [`Error::Format`] if the folder has the results of another run and may not replace them, or is in
    /// use by a run that is going on; [`Error::Io`] if nothing can be written there.
    pub fn new(base: &Path, options: &RunOptions, results: &[&str]) -> Result<Self> {
        let has_epochs =
            |folder: &Path| epochs::in_folder(folder).is_ok_and(|epochs| !epochs.is_empty());
        let is_used = |folder: &Path| {
            results.iter().any(|name| folder.join(name).exists()) || has_epochs(folder)
        };
        let resumed = options.resume.as_deref().map(folder_of_checkpoint);
        let folder = match (&options.out, resumed) {
            (Some(out), resumed) => {
                let other = resumed.is_none_or(|resumed| !is_same(&resumed, out));
                if other && is_used(out) && !options.overwrite {
                    return Err(Error::Format {
                        path: out.clone(),
                        what: "has an earlier run's results: choose another --out, go on with \
                               --resume, or replace them with --overwrite"
                            .into(),
                    });
                }
                out.clone()
            }
            (None, Some(resumed)) => resumed,
            (None, None) => {
                for n in 1usize.. {
                    let folder = match n {
                        1 => base.to_owned(),
                        n => PathBuf::from(format!("{}-{n}", base.display())),
                    };
                    if is_used(&folder) {
                        continue;
                    }
                    if let Some(claim) = Self::lock(folder)? {
                        // Another run may have come and gone since the question above.
                        if !is_used(&claim.folder) {
                            return Ok(claim);
                        }
                    }
                }
                base.to_owned()
            }
        };
        Self::lock(folder.clone())?.ok_or_else(|| Error::Format {
            path: folder,
            what: "is in use by a run that is going on".into(),
        })
    }

    /// Makes the folder, checks that it can be written, and locks it; `None` if another run has it.
    fn lock(folder: PathBuf) -> Result<Option<Self>> {
        std::fs::create_dir_all(&folder)
            .map_err(|err| Error::io(&folder, "create the folder", err))?;
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(|err| Error::io(&path, "create", err))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            // A file system without locks: two runs are then the user's care.
            Err(std::fs::TryLockError::Error(_)) => {}
        }
        remove_remains(&folder)?;
        prepare_file(&folder.join("results"))?;
        Ok(Some(Self {
            folder,
            _lock: lock,
        }))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

/// The folder of a checkpoint that is given as its file or as its folder.
pub(super) fn folder_of_checkpoint(path: &Path) -> PathBuf {
    match path.is_dir() {
        true => path.to_owned(),
        false => folder_of(path),
    }
}

/// Whether two paths are one folder.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// The folder that a file lies in.
fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes the folder of a file that is to be written later, and checks that it can be.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] with the file that cannot be written.
pub fn prepare_file(file: &Path) -> Result<()> {
    let folder = folder_of(file);
    std::fs::create_dir_all(&folder).map_err(|err| Error::io(&folder, "create the folder", err))?;
    if file.is_dir() {
        return Err(Error::Format {
            path: file.to_owned(),
            what: "a folder, where a file is to be written".into(),
        });
    }
    // As files are written: a temporary one beside it first.
    tempfile::tempfile_in(&folder).map_err(|err| Error::io(file, "write", err))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_that_is_free_is_claimed() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("a/b");
        let claim = || Claim::new(&base, &RunOptions::default(), &["metrics.csv"]).unwrap();
        let name = |claim: &Claim| claim.path().file_name().unwrap().to_owned();
        let (first, second) = (claim(), claim());
        assert_eq!((name(&first), name(&second)), ("b".into(), "b-2".into()));
        std::fs::write(second.path().join("metrics.csv"), "").unwrap();
        drop((first, second));
        // Not used by a run that is over, and without results.
        let first = claim();
        assert_eq!((name(&first), name(&claim())), ("b".into(), "b-3".into()));
    }

    #[test]
    fn results_are_replaced_only_on_request_and_not_beside_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, other) = (folder.path().join("mine"), folder.path().join("other"));
        let options = |overwrite, resume: Option<&Path>| RunOptions {
            out: Some(mine.clone()),
            overwrite,
            resume: resume.map(Path::to_owned),
            save_every: None,
            ..RunOptions::default()
        };
        let claim = |options| Claim::new(Path::new("unused"), &options, &["metrics.csv"]);
        let message = |options| claim(options).unwrap_err().to_string();
        let held = claim(options(false, None)).unwrap();
        assert_eq!(held.path(), mine);
        let in_use = message(options(true, None));
        assert!(in_use.contains("mine: is in use by a run"), "{in_use}");
        drop(held);
        std::fs::write(mine.join("metrics.csv"), "").unwrap();
        std::fs::create_dir(&other).unwrap();
        for resume in [None, Some(other.join("checkpoint"))] {
            let err = message(options(false, resume.as_deref()));
            assert!(
                err.contains("--overwrite") && err.contains("--resume"),
                "{err}"
            );
        }
        claim(options(true, None)).unwrap();
        claim(options(false, Some(&mine))).unwrap();
        claim(options(false, Some(&mine.join("checkpoint")))).unwrap();
    }

    #[test]
    fn a_file_is_prepared_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b/c.png");
        prepare_file(&file).unwrap();
        assert!(folder.path().join("a/b").is_dir() && !file.exists());
        let err = prepare_file(&folder.path().join("a")).unwrap_err();
        assert!(err.to_string().contains("a folder"), "{err}");
        std::fs::write(&file, "").unwrap();
        let err = prepare_file(&file.join("d.png")).unwrap_err();
        assert!(err.to_string().contains("c.png"), "{err}");
        prepare_file(&file).unwrap();
        assert_eq!(folder_of(Path::new("x")), Path::new("."));
    }
}
