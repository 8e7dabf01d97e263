//! A list of picture files, in a folder or in a zip.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use crate::data::tree::Tree;
use crate::data::zip_entry::ZipEntry;
use crate::error::{DataError, DataResult, FileName};

/// Where pictures lie. One of 1.28 million files takes about 40 bytes, and in a zip 40 more.
pub(in super::super) struct Pictures {
    source: Source,
    names: Names,
}

enum Source {
    Folder(PathBuf),
    Zip {
        path: PathBuf,
        file: Arc<File>,
        entries: Vec<ZipEntry>,
    },
}

/// Names one after the other, in one piece of memory.
#[derive(Default, PartialEq, Eq)]
struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    fn get(&self, index: usize) -> Option<&str> {
        let start = match index {
            0 => 0,
            index => self.ends[..].get(index - 1).copied()?,
        };
        self.text.get(start..*self.ends.get(index)?)
    }
}

impl Pictures {
    /// The pictures at these places of a tree.
    ///
    /// # Errors
    /// For one that a zip has not. (Files in a folder are looked for when they are read.)
    pub fn new(tree: &Tree, places: &[String]) -> DataResult<Self> {
        let mut names = Names::default();
        for place in places {
            names.text.push_str(place);
            names.ends.push(names.text.len());
        }
        names.text.shrink_to_fit();
        let source = match tree {
            Tree::Folder(root) => Source::Folder(root.clone()),
            Tree::Zip(zip) => {
                let entry = |place: &String| {
                    zip.entry(place).copied().ok_or_else(|| DataError::Missing {
                        path: zip.path.clone(),
                        expected: place.clone(),
                    })
                };
                Source::Zip {
                    path: zip.path.clone(),
                    file: zip.file.clone(),
                    entries: places.iter().map(entry).collect::<DataResult<_>>()?,
                }
            }
        };
        Ok(Self { source, names })
    }

    pub fn len(&self) -> usize {
        self.names.ends.len()
    }

    /// The name of one, for errors.
    pub fn name(&self, index: usize) -> FileName {
        let name = self.names.get(index).unwrap_or_default();
        match &self.source {
            Source::Folder(root) => FileName::of(&root.join(name)),
            Source::Zip { path, .. } => FileName {
                archive: Some(path.clone()),
                file: name.into(),
            },
        }
    }

    /// Puts the bytes of one into `bytes`, in place of what was there.
    pub fn read(&self, index: usize, bytes: &mut Vec<u8>) -> DataResult<()> {
        let read = match &self.source {
            Source::Folder(root) => {
                bytes.clear();
                let name = self.names.get(index).unwrap_or_default();
                File::open(root.join(name)).and_then(|mut file| file.read_to_end(bytes))
            }
            Source::Zip { file, entries, .. } => match entries.get(index) {
                Some(entry) => entry.read(file, bytes).map(|()| 0),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        };
        match read {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(DataError::Picture {
                file: self.name(index),
                message: e.to_string(),
            }),
            Err(source) => Err(DataError::Io {
                file: self.name(index),
                offset: bytes.len() as u64,
                source,
            }),
        }
    }
}

/// The same files, which are taken for unchanged.
impl PartialEq for Pictures {
    fn eq(&self, other: &Self) -> bool {
        let source = match (&self.source, &other.source) {
            (Source::Folder(a), Source::Folder(b)) => a == b,
            (Source::Zip { path: a, .. }, Source::Zip { path: b, .. }) => a == b,
            _ => false,
        };
        source && self.names == other.names
    }
}
