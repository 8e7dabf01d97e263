//! The files of a data set: in a folder, in a zip, in a tar.gz, each plain or gzipped.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::error::{DataError, DataResult, FileName};

/// Most bytes that are read out of a tar.gz, after decompression, before it is given up as not a
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
    fn new(reader: impl Read + 'a, name: FileName, compressed: bool) -> Self {
        let gz = name.file.extension().is_some_and(|e| e == "gz");
        let reader: Box<dyn Read + 'a> = if gz {
            Box::new(MultiGzDecoder::new(BufReader::new(reader)))
        } else {
            Box::new(BufReader::new(reader))
        };
        Self {
            reader,
            name,
            offset: 0,
            expected: 0,
            compressed: compressed || gz,
        }
    }

    fn open(path: &Path) -> DataResult<Self> {
        let name = FileName {
            archive: None,
            file: path.into(),
        };
        let file = open(path)?;
        Ok(Self::new(file, name, false))
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

/// Reads a file at `path`, by its extension plain or gzipped.
pub(super) fn read_file<T>(
    path: &Path,
    parse: impl FnOnce(&mut Input) -> DataResult<T>,
) -> DataResult<T> {
    parse(&mut Input::open(path)?)
}

/// Reads each of the `wanted` files of the data set at `path`, a folder or an archive.
///
/// In a folder a file lies directly or in one of the `inner` folders; in an archive it lies
/// anywhere. Each can have `.gz` after its name. `parse` is called with the file's place in
/// `wanted`, in whatever order the files come.
///
/// # Errors
/// As [`DataError`] says; a file that is there twice, or that is missing, is one.
pub(super) fn read_all<T>(
    path: &Path,
    inner: &[&str],
    wanted: &[&Names],
    mut parse: impl FnMut(usize, &mut Input) -> DataResult<T>,
) -> DataResult<Vec<T>> {
    let metadata = std::fs::metadata(path).map_err(|e| io_error(path, e))?;
    if metadata.is_dir() {
        let mut all = Vec::with_capacity(wanted.len());
        for (i, names) in wanted.iter().enumerate() {
            let file = find(path, inner, names)?;
            all.push(parse(i, &mut Input::open(&file)?)?);
        }
        return Ok(all);
    }
    let mut collected = Collected::new(path, wanted);
    let mut file = open(path)?;
    let mut head = Vec::new();
    (&mut file)
        .take(2)
        .read_to_end(&mut head)
        .and_then(|_| file.rewind())
        .map_err(|e| io_error(path, e))?;
    match head[..] {
        [b'P', b'K'] => read_zip(path, file, &mut collected, &mut parse)?,
        [0x1f, 0x8b] => read_tar_gz(path, file, &mut collected, &mut parse)?,
        _ => {
            let found = head.iter().map(|b| format!("{b:02x} ")).collect::<String>();
            let found = match found.trim_end() {
                "" => "nothing".into(),
                hex => hex.into(),
            };
            return Err(DataError::NotAnArchive {
                path: path.into(),
                found,
            });
        }
    }
    collected.finish()
}

fn open(path: &Path) -> DataResult<File> {
    File::open(path).map_err(|e| io_error(path, e))
}

fn io_error(path: &Path, source: io::Error) -> DataError {
    DataError::Io {
        file: FileName {
            archive: None,
            file: path.into(),
        },
        offset: 0,
        source,
    }
}

/// The path of one of `names` in `folder` or its `inner` folders.
fn find(folder: &Path, inner: &[&str], names: &Names) -> DataResult<PathBuf> {
    let folders = std::iter::once(folder.to_path_buf()).chain(inner.iter().map(|i| folder.join(i)));
    for folder in folders {
        for suffix in ["", ".gz"] {
            for name in names {
                let file = folder.join(format!("{name}{suffix}"));
                if file.is_file() {
                    return Ok(file);
                }
            }
        }
    }
    Err(DataError::Missing {
        path: folder.into(),
        expected: expected(names),
    })
}

fn expected(names: &Names) -> String {
    format!("{} (or with .gz)", names.join(" or "))
}

/// What was read out of an archive so far.
struct Collected<'a, T> {
    path: &'a Path,
    wanted: &'a [&'a Names],
    found: Vec<Option<(PathBuf, T)>>,
}

impl<'a, T> Collected<'a, T> {
    fn new(path: &'a Path, wanted: &'a [&'a Names]) -> Self {
        let found = wanted.iter().map(|_| None).collect();
        Self {
            path,
            wanted,
            found,
        }
    }

    /// Which of the wanted files `entry` is.
    fn place(&self, entry: &Path) -> DataResult<Option<usize>> {
        let Some(name) = entry.file_name().and_then(|n| n.to_str()) else {
            return Ok(None);
        };
        let name = name.strip_suffix(".gz").unwrap_or(name);
        let Some(i) = self.wanted.iter().position(|names| names.contains(&name)) else {
            return Ok(None);
        };
        match &self.found[i] {
            None => Ok(Some(i)),
            Some((first, _)) => Err(DataError::Ambiguous {
                path: self.path.into(),
                first: first.display().to_string(),
                second: entry.display().to_string(),
            }),
        }
    }

    fn file_name(&self, entry: &Path) -> FileName {
        FileName {
            archive: Some(self.path.into()),
            file: entry.into(),
        }
    }

    fn finish(self) -> DataResult<Vec<T>> {
        let (path, wanted) = (self.path, self.wanted);
        let missing = |i: usize| DataError::Missing {
            path: path.into(),
            expected: expected(wanted[i]),
        };
        let found = self.found.into_iter().enumerate();
        found
            .map(|(i, f)| f.map(|(_, t)| t).ok_or_else(|| missing(i)))
            .collect()
    }
}

fn read_zip<T>(
    path: &Path,
    file: File,
    collected: &mut Collected<T>,
    parse: &mut impl FnMut(usize, &mut Input) -> DataResult<T>,
) -> DataResult<()> {
    let damaged = |message: String| DataError::Archive {
        path: path.into(),
        message,
    };
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(e.to_string()))?;
    for n in 0..zip.len() {
        let entry = zip
            .by_index(n)
            .map_err(|e| damaged(format!("entry {n}: {e}")))?;
        if !entry.is_file() {
            continue;
        }
        let name = entry
            .name()
            .map_err(|e| damaged(format!("entry {n}: {e}")))?;
        let name = PathBuf::from(name.into_owned());
        if let Some(i) = collected.place(&name)? {
            let mut input = Input::new(entry, collected.file_name(&name), true);
            let parsed = parse(i, &mut input)?;
            collected.found[i] = Some((name, parsed));
        }
    }
    Ok(())
}

fn read_tar_gz<T>(
    path: &Path,
    file: File,
    collected: &mut Collected<T>,
    parse: &mut impl FnMut(usize, &mut Input) -> DataResult<T>,
) -> DataResult<()> {
    let damaged = |message: String| DataError::Archive {
        path: path.into(),
        message,
    };
    let gz = MultiGzDecoder::new(BufReader::new(file)).take(MAX_ARCHIVE);
    let mut tar = tar::Archive::new(gz);
    // Raw: the extension records of long names are skipped instead of read into memory.
    let entries = tar.entries().map_err(|e| damaged(e.to_string()))?.raw(true);
    for entry in entries {
        let entry = entry.map_err(|e| damaged(e.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry
            .path()
            .map_err(|e| damaged(e.to_string()))?
            .into_owned();
        if let Some(i) = collected.place(&name)? {
            let mut input = Input::new(entry, collected.file_name(&name), true);
            let parsed = parse(i, &mut input)?;
            collected.found[i] = Some((name, parsed));
        }
    }
    // To the end, so that the checksum is checked.
    let mut rest = tar.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|e| damaged(e.to_string()))?;
    if rest.limit() == 0 {
        return Err(damaged(format!(
            "goes on after {MAX_ARCHIVE} decompressed bytes"
        )));
    }
    Ok(())
}
