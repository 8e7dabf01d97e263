//! The files of a data set: in a folder, in a zip, in a tar or tar.gz, each plain or gzipped.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::iter;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::error::{DataError, DataResult, FileName};

/// How a gzip begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Most bytes that are read out of a tar, after decompression, before it is given up as not a
/// data set. (CIFAR-10 has 184 MB.)
const MAX_ARCHIVE: u64 = 2 << 30;

/// A file that is being read: knows its name and how far it was read, for the errors.
pub(super) struct Input<'a> {
    reader: Box<dyn Read + 'a>,
    /// The file's name.
    pub name: FileName,
    offset: u64,
    expected: u64,
    compressed: bool,
}

impl<'a> Input<'a> {
    /// A reader of the file `name`; `compressed` if an error of `reader` can come from a
    /// decompressor.
    fn new(mut reader: impl Read + 'a, name: FileName, compressed: bool) -> DataResult<Self> {
        // What a file is shows in its first bytes: its name may be that of before it was unpacked.
        let mut head = Vec::new();
        let read = reader.by_ref().take(2).read_to_end(&mut head);
        let gz = head == GZIP;
        let reader = BufReader::new(Cursor::new(head).chain(reader));
        let reader: Box<dyn Read + 'a> = match gz {
            true => Box::new(MultiGzDecoder::new(reader)),
            false => Box::new(reader),
        };
        let this = Self {
            reader,
            name,
            offset: 0,
            expected: 0,
            compressed: compressed || gz,
        };
        match read {
            Ok(_) => Ok(this),
            Err(e) => Err(this.failed(e)),
        }
    }

    fn open(path: &Path) -> DataResult<Self> {
        let file = open(path)?;
        Self::new(file, FileName::of(path), false)
    }

    /// How many bytes were read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Says how many bytes the file should have, for the errors.
    pub fn expect(&mut self, len: u64) {
        self.expected = len;
    }

    /// The next `len` bytes, of `what`. Memory grows with what is there, not with `len`.
    pub fn bytes(&mut self, len: u64, what: &'static str) -> DataResult<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(len).read_to_end(&mut bytes);
        let start = self.offset;
        self.offset += bytes.len() as u64;
        read.map_err(|e| self.failed(e))?;
        if (bytes.len() as u64) < len {
            return Err(DataError::Truncated {
                file: self.name.clone(),
                offset: self.offset,
                expected: self.expected.max(start.saturating_add(len)),
                what,
            });
        }
        Ok(bytes)
    }

    /// The next big-endian 32-bit number, in the header.
    pub fn u32(&mut self) -> DataResult<u32> {
        let bytes = self.bytes(4, "the header")?;
        Ok(bytes.iter().fold(0, |n, &b| n << 8 | u32::from(b)))
    }

    /// Checks that nothing follows (and, on the way, the checksum of what was decompressed).
    pub fn end(&mut self, what: &'static str) -> DataResult<()> {
        let mut next = Vec::new();
        let read = (&mut self.reader).take(1).read_to_end(&mut next);
        read.map_err(|e| self.failed(e))?;
        if next.is_empty() {
            return Ok(());
        }
        Err(DataError::Oversized {
            file: self.name.clone(),
            expected: self.offset,
            what,
        })
    }

    fn failed(&self, source: io::Error) -> DataError {
        let (file, offset) = (self.name.clone(), self.offset);
        if self.compressed {
            DataError::Decompress {
                file,
                offset,
                source,
            }
        } else {
            DataError::Io {
                file,
                offset,
                source,
            }
        }
    }
}

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

/// What is done with an archive's files, one after the other.
type Visit<'v> = dyn FnMut(&Path, &mut dyn Read) -> DataResult<()> + 'v;

/// An archive that is told by its first bytes.
enum Archive {
    Zip(File),
    Tar(File),
    TarGz(File),
}

impl Archive {
    /// `None` if `path` is a folder.
    fn open(path: &Path) -> DataResult<Option<Self>> {
        let metadata = std::fs::metadata(path).map_err(|e| io_error(path, e))?;
        if metadata.is_dir() {
            return Ok(None);
        }
        let mut file = open(path)?;
        let mut head = Vec::new();
        file.by_ref()
            .take(512)
            .read_to_end(&mut head)
            .and_then(|_| file.rewind())
            .map_err(|e| io_error(path, e))?;
        Ok(Some(match head[..] {
            [b'P', b'K', ..] => Self::Zip(file),
            [0x1f, 0x8b, ..] => Self::TarGz(file),
            _ if is_tar_header(&head) => Self::Tar(file),
            _ => {
                let hex = head.iter().take(2).map(|b| format!("{b:02x} "));
                let found = match hex.collect::<String>().trim_end() {
                    "" => "nothing".into(),
                    hex => hex.into(),
                };
                return Err(DataError::NotAnArchive {
                    path: path.into(),
                    found,
                });
            }
        }))
    }

    fn entries(&mut self, path: &Path, visit: &mut Visit) -> DataResult<()> {
        match self {
            Self::Zip(file) => zip_entries(path, file, visit),
            Self::Tar(file) => tar_entries(path, BufReader::new(file), visit),
            Self::TarGz(file) => {
                tar_entries(path, MultiGzDecoder::new(BufReader::new(file)), visit)
            }
        }
    }
}

/// Whether a block is a tar's header: its checksum, an octal number, is the sum of its bytes with
/// itself as spaces.
fn is_tar_header(block: &[u8]) -> bool {
    let Some(field) = block.get(148..156).filter(|_| block.len() == 512) else {
        return false;
    };
    let text = String::from_utf8_lossy(field);
    let text = text.trim_matches(|c: char| c == '\0' || c == ' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    let own: u32 = field.iter().map(|&b| u32::from(b)).sum();
    u32::from_str_radix(text, 8) == Ok(sum - own + 8 * u32::from(b' '))
}

fn open(path: &Path) -> DataResult<File> {
    File::open(path).map_err(|e| io_error(path, e))
}

fn io_error(path: &Path, source: io::Error) -> DataError {
    DataError::Io {
        file: FileName::of(path),
        offset: 0,
        source,
    }
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

fn damaged(path: &Path, message: impl Display) -> DataError {
    DataError::Archive {
        path: path.into(),
        message: message.to_string(),
    }
}

fn zip_entries(path: &Path, file: &mut File, visit: &mut Visit) -> DataResult<()> {
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(path, e))?;
    for n in 0..zip.len() {
        let at_entry = |e| damaged(path, format_args!("entry {n}: {e}"));
        let mut entry = zip.by_index(n).map_err(at_entry)?;
        if !entry.is_file() {
            continue;
        }
        let name = PathBuf::from(entry.name().map_err(at_entry)?.into_owned());
        visit(&name, &mut entry)?;
    }
    Ok(())
}

fn tar_entries(path: &Path, reader: impl Read, visit: &mut Visit) -> DataResult<()> {
    let mut tar = tar::Archive::new(reader.take(MAX_ARCHIVE));
    // Raw: the extension records of long names are skipped instead of read into memory.
    let entries = tar.entries().map_err(|e| damaged(path, e))?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(|e| damaged(path, e))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(|e| damaged(path, e))?.into_owned();
        visit(&name, &mut entry)?;
    }
    // To the end, so that the checksum of a tar.gz is checked.
    let mut rest = tar.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|e| damaged(path, e))?;
    if rest.limit() == 0 {
        let message = format_args!("goes on after {MAX_ARCHIVE} decompressed bytes");
        return Err(damaged(path, message));
    }
    Ok(())
}
