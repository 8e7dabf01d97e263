//! The files in a zip, a tar or a tar.gz.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::reader::{io_error, open};
use crate::error::{DataError, DataResult};

/// Most bytes that are read out of a tar, after decompression, before it is given up as not a
/// data set. (CIFAR-10 has 184 MB.)
const MAX_ARCHIVE: u64 = 2 << 30;

/// What is done with an archive's files, one after the other.
pub(super) type Visit<'v> = dyn FnMut(&Path, &mut dyn Read) -> DataResult<()> + 'v;

/// An archive that is told by its first bytes.
pub(super) enum Archive {
    Zip(File),
    Tar(File),
    TarGz(File),
}

impl Archive {
    /// `None` if `path` is a folder.
    pub fn open(path: &Path) -> DataResult<Option<Self>> {
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

    /// Visits all files, in the archive's order.
    pub fn entries(&mut self, path: &Path, visit: &mut Visit) -> DataResult<()> {
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
