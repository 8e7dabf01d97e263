//! The files of a data set: in a folder or an archive, each plain or gzipped.

use std::iter;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::reader::Input;
use crate::error::{DataError, DataResult, FileName};

/// One file of a data set, by the names that it can have.
pub(super) type Names = [&'static str];

/// Reads a file at `path`, plain or gzipped.
pub(super) fn read_file<T>(
    path: &Path,
    parse: impl FnOnce(&mut Input) -> DataResult<T>,
) -> DataResult<T> {
    parse(&mut Input::open(path)?)
}

/// Reads each of the `wanted` files of the data set at `path`, a folder or an archive.
///
/// In a folder a file lies directly or in one of the `inner` folders, or in a folder of its own name;
/// in an archive it lies anywhere. Each can have `.gz` after its name. `parse` is called with the
/// file's place in `wanted`, in whatever order the files come. A file that is there twice has to
/// have the same contents.
///
/// # Errors
/// As [`DataError`] says; a file that is there with two contents, or that is missing, is one.
pub(super) fn read_all<T: PartialEq>(
    path: &Path,
    inner: &[&str],
    wanted: &[&Names],
    mut parse: impl FnMut(usize, &mut Input) -> DataResult<T>,
) -> DataResult<Vec<T>> {
    let mut collected = Collected::new(path, wanted);
    let Some(mut archive) = Archive::open(path)? else {
        for (i, names) in wanted.iter().enumerate() {
            for file in find(path, inner, names) {
                let parsed = parse(i, &mut Input::open(&file)?)?;
                collected.put(i, &file, parsed)?;
            }
            if collected.found[i].is_none() {
                return Err(collected.missing(i));
            }
        }
        return collected.finish();
    };
    archive.entries(path, &mut |name, reader| {
        if let Some(i) = collected.place(name) {
            let file = FileName {
                archive: Some(path.into()),
                file: name.into(),
            };
            let parsed = parse(i, &mut Input::new(reader, file, true)?)?;
            collected.put(i, name, parsed)?;
        }
        Ok(())
    })?;
    collected.finish()
}

/// Whether a folder, directly or in one of its `inner` folders, or an archive, anywhere, has a file
/// of this name. One that cannot be read has not.
pub(super) fn holds(path: &Path, inner: &[&str], file: &str) -> bool {
    let mut found = false;
    match Archive::open(path) {
        Ok(None) => {
            let folders = iter::once(path.to_path_buf()).chain(inner.iter().map(|i| path.join(i)));
            found = folders
                .into_iter()
                .any(|folder| folder.join(file).is_file());
        }
        Ok(Some(mut archive)) => {
            // What it fails at has been said where it was read.
            let _ = archive.entries(path, &mut |name, _| {
                found |= last_part(name) == Some(file);
                Ok(())
            });
        }
        Err(_) => (),
    }
    found
}

/// The files of these names in `folder` and its `inner` folders, each perhaps in a folder of its name.
fn find<'a>(
    folder: &'a Path,
    inner: &'a [&str],
    names: &'a Names,
) -> impl Iterator<Item = PathBuf> + 'a {
    let folders = iter::once(folder.to_path_buf()).chain(inner.iter().map(|i| folder.join(i)));
    let names = move |suffix: &'a str| names.iter().map(move |name| format!("{name}{suffix}"));
    folders
        .flat_map(move |folder| {
            let names = names("").chain(names(".gz"));
            names.map(move |name| (folder.join(&name), name))
        })
        .map(|(path, name)| match path.is_dir() {
            true => path.join(name),
            false => path,
        })
        .filter(|path| path.is_file())
}

/// An entry's name without its folders, which some zips set apart by backslashes.
fn last_part(entry: &Path) -> Option<&str> {
    entry.file_name()?.to_str()?.rsplit('\\').next()
}

/// What was read out of a folder or an archive so far.
struct Collected<'a, T> {
    path: &'a Path,
    wanted: &'a [&'a Names],
    found: Vec<Option<(PathBuf, T)>>,
}

impl<'a, T: PartialEq> Collected<'a, T> {
    fn new(path: &'a Path, wanted: &'a [&'a Names]) -> Self {
        let found = wanted.iter().map(|_| None).collect();
        Self {
            path,
            wanted,
            found,
        }
    }

    /// Which of the wanted files `entry` is.
    fn place(&self, entry: &Path) -> Option<usize> {
        let name = last_part(entry)?;
        let name = name.strip_suffix(".gz").unwrap_or(name);
        self.wanted.iter().position(|names| names.contains(&name))
    }

    /// The same contents twice are no matter: zips of MNIST have each file twice.
    fn put(&mut self, i: usize, name: &Path, contents: T) -> DataResult<()> {
        match &self.found[i] {
            None => self.found[i] = Some((name.into(), contents)),
            Some((_, first)) if *first == contents => (),
            Some((first, _)) => {
                return Err(DataError::Ambiguous {
                    path: self.path.into(),
                    first: first.display().to_string(),
                    second: name.display().to_string(),
                })
            }
        }
        Ok(())
    }

    fn missing(&self, i: usize) -> DataError {
        DataError::Missing {
            path: self.path.into(),
            expected: format!("{} (or with .gz)", self.wanted[i].first().unwrap_or(&"")),
        }
    }

    fn finish(mut self) -> DataResult<Vec<T>> {
        let found = std::mem::take(&mut self.found).into_iter().enumerate();
        found
            .map(|(i, f)| f.map(|(_, t)| t).ok_or_else(|| self.missing(i)))
            .collect()
    }
}
