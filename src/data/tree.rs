//! Folders and files below a folder, or in a zip that is not unpacked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::zip_entry::{compact, ZipEntry};
use crate::error::{DataError, DataResult, FileName};

/// A folder or a zip. A place in it is a path with `/` between its parts, and "" for the root.
pub(super) enum Tree {
    Folder(PathBuf),
    Zip(ZipTree),
}

/// The table of contents of a zip.
pub(super) struct ZipTree {
    pub path: PathBuf,
    pub file: Arc<File>,
    /// The names in each folder, each with the entry if it is a file.
    folders: BTreeMap<String, BTreeMap<String, Option<ZipEntry>>>,
}

/// A folder or file in a folder.
#[derive(Debug, PartialEq)]
pub(super) struct Child {
    pub name: String,
    pub is_folder: bool,
}

/// Whether a name is none of the data set's: hidden, or what a Mac adds to copies.
fn is_foreign(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX"
}

pub(super) fn join(at: &str, name: &str) -> String {
    match at {
        "" => name.into(),
        at => format!("{at}/{name}"),
    }
}

fn io_error(path: &Path, source: io::Error) -> DataError {
    DataError::Io {
        file: FileName::of(path),
        offset: 0,
        source,
    }
}

impl Tree {
    /// # Errors
    /// If `path` is neither a folder nor a zip that can be read.
    pub fn open(path: &Path) -> DataResult<Self> {
        let metadata = fs::metadata(path).map_err(|e| io_error(path, e))?;
        if metadata.is_dir() {
            return Ok(Self::Folder(path.into()));
        }
        Ok(Self::Zip(ZipTree::open(path)?))
    }

    /// Where a place lies, for errors.
    pub fn show(&self, at: &str) -> PathBuf {
        let root = match self {
            Self::Folder(root) => root,
            Self::Zip(zip) => &zip.path,
        };
        match at {
            "" => root.clone(),
            at => root.join(at),
        }
    }

    pub fn is_folder(&self, at: &str) -> bool {
        match self {
            Self::Folder(root) => root.join(at).is_dir(),
            Self::Zip(zip) => zip.folders.contains_key(at),
        }
    }

    pub fn is_file(&self, at: &str) -> bool {
        match self {
            Self::Folder(root) => root.join(at).is_file(),
            Self::Zip(zip) => zip.entry(at).is_some(),
        }
    }

    /// What the folder at a place holds, in alphabetical order, without hidden names.
    ///
    /// # Errors
    /// If it cannot be read, and for a name that is not UTF-8.
    pub fn list(&self, at: &str) -> DataResult<Vec<Child>> {
        match self {
            Self::Folder(root) => list_folder(&root.join(at)),
            Self::Zip(zip) => {
                let names = zip.folders.get(at).ok_or_else(|| DataError::Missing {
                    path: zip.path.clone(),
                    expected: at.into(),
                })?;
                let children = names.iter().filter(|(name, _)| !is_foreign(name));
                let child = |(name, entry): (&String, &Option<_>)| Child {
                    name: name.clone(),
                    is_folder: entry.is_none(),
                };
                Ok(children.map(child).collect())
            }
        }
    }

    /// The text of a file.
    pub fn text(&self, at: &str) -> DataResult<String> {
        let path = self.show(at);
        match self {
            Self::Folder(_) => fs::read_to_string(&path).map_err(|e| io_error(&path, e)),
            Self::Zip(zip) => {
                let missing = || io_error(&path, io::ErrorKind::NotFound.into());
                let mut bytes = Vec::new();
                zip.entry(at)
                    .ok_or_else(missing)?
                    .read(&zip.file, &mut bytes)
                    .map_err(|e| io_error(&path, e))?;
                String::from_utf8(bytes)
                    .map_err(|e| io_error(&path, io::Error::new(io::ErrorKind::InvalidData, e)))
            }
        }
    }

    /// The folder that has one of `wanted`: `at`, or further down as long as there is one folder only,
    /// as in zips with one folder around everything. `at` if there is none.
    pub fn descend(&self, at: &str, wanted: &[&str]) -> String {
        let mut place = at.to_owned();
        for _ in 0..8 {
            let has = |name: &&str| {
                let at = join(&place, name);
                self.is_folder(&at) || self.is_file(&at)
            };
            if wanted.iter().any(has) {
                return place;
            }
            match self.list(&place).as_deref() {
                Ok([only]) if only.is_folder => place = join(&place, &only.name),
                _ => break,
            }
        }
        at.to_owned()
    }
}

fn list_folder(folder: &Path) -> DataResult<Vec<Child>> {
    let error = |e| io_error(folder, e);
    let mut children = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let name = match entry.file_name().into_string() {
            Ok(name) if is_foreign(&name) => continue,
            Ok(name) => name,
            Err(name) => {
                return Err(DataError::Name {
                    folder: folder.into(),
                    name: name.to_string_lossy().into_owned(),
                })
            }
        };
        let kind = entry.file_type().map_err(error)?;
        children.push(Child {
            is_folder: match kind.is_symlink() {
                true => entry.path().is_dir(),
                false => kind.is_dir(),
            },
            name,
        });
    }
    children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(children)
}

impl ZipTree {
    fn open(path: &Path) -> DataResult<Self> {
        let mut file = File::open(path).map_err(|e| io_error(path, e))?;
        let mut head = Vec::new();
        file.by_ref()
            .take(2)
            .read_to_end(&mut head)
            .map_err(|e| io_error(path, e))?;
        if head != *b"PK" {
            return Err(DataError::Layout {
                path: path.into(),
                expected: "a folder or a zip (50 4b)".into(),
                found: format!("a file that begins with {head:02x?}"),
            });
        }
        let damaged = |message: String| DataError::Archive {
            path: path.into(),
            message,
        };
        let zip =
            zip::ZipArchive::new(BufReader::new(&file)).map_err(|e| damaged(e.to_string()))?;
        let mut folders = BTreeMap::<String, BTreeMap<String, Option<ZipEntry>>>::new();
        folders.entry(String::new()).or_default();
        for n in 0..zip.len() {
            let at_entry = |e: &dyn std::fmt::Display| damaged(format!("entry {n}: {e}"));
            let entry = zip.by_index_data(n).map_err(|e| at_entry(&e))?;
            // Some programs write backslashes.
            let name = entry.name().map_err(|e| at_entry(&e))?.replace('\\', "/");
            let is_folder = entry.is_dir() || name.ends_with('/');
            let name = name.trim_matches('/');
            if name.split('/').any(is_foreign) || entry.is_symlink() {
                continue;
            }
            let (mut at, file) = match name.rsplit_once('/') {
                _ if is_folder => (name, None),
                Some((at, file)) => (at, Some(file)),
                None => ("", Some(name)),
            };
            if let Some(file) = file {
                let entry = compact(&entry).map_err(|what| at_entry(&format!("{name}: {what}")))?;
                let names = folders.entry(at.into()).or_default();
                names.insert(file.into(), Some(entry));
            } else {
                folders.entry(at.into()).or_default();
            }
            // The folders on the way need no entries of their own.
            while !at.is_empty() {
                let (above, last) = at.rsplit_once('/').unwrap_or(("", at));
                let names = folders.entry(above.into()).or_default();
                if names.insert(last.into(), None).is_some() {
                    break;
                }
                at = above;
            }
        }
        drop(zip);
        Ok(Self {
            path: path.into(),
            file: Arc::new(file),
            folders,
        })
    }

    pub fn entry(&self, at: &str) -> Option<&ZipEntry> {
        let (folder, name) = at.rsplit_once('/').unwrap_or(("", at));
        self.folders.get(folder)?.get(name)?.as_ref()
    }
}
