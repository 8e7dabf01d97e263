//! A file of a data set as it is read, plain or gzipped.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{DataError, DataResult, FileName};

/// How a gzip begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

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
    pub fn new(mut reader: impl Read + 'a, name: FileName, compressed: bool) -> DataResult<Self> {
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

    /// Reads a file, plain or gzipped.
    pub fn open(path: &Path) -> DataResult<Self> {
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

pub(super) fn open(path: &Path) -> DataResult<File> {
    File::open(path).map_err(|e| io_error(path, e))
}

pub(super) fn io_error(path: &Path, source: io::Error) -> DataError {
    DataError::Io {
        file: FileName::of(path),
        offset: 0,
        source,
    }
}
