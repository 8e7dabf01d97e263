//! One file of a zip, read by its place: by any number of threads at once, without unpacking others.

use std::fs::File;
use std::io;

use flate2::{Crc, Decompress, FlushDecompress, Status};
use zip::read::ZipFileEntry;
use zip::CompressionMethod;

/// What is kept of a zip's table of contents for each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ZipEntry {
    /// Where the file's own header begins.
    header: u64,
    packed: u64,
    unpacked: u64,
    crc: u32,
    deflated: bool,
}

/// Length of a file's header without the name and the extra field.
const HEADER: usize = 30;
/// More than any picture or list has; what a damaged table of contents may claim is not read.
const MAX_LEN: u64 = 1 << 30;

/// # Errors
/// What this entry is that cannot be read.
pub(super) fn compact(entry: &ZipFileEntry) -> Result<ZipEntry, &'static str> {
    let deflated = match entry.compression() {
        CompressionMethod::Stored => false,
        CompressionMethod::Deflated => true,
        _ => return Err("compressed by another method than deflate"),
    };
    if entry.encrypted() {
        return Err("encrypted");
    }
    Ok(ZipEntry {
        header: entry.header_start(),
        packed: entry.compressed_size(),
        unpacked: entry.size(),
        crc: entry.crc32(),
        deflated,
    })
}

impl ZipEntry {
    /// Puts the file's bytes into `bytes`, in place of what was there.
    ///
    /// # Errors
    /// Those of reading, and [`InvalidData`](io::ErrorKind::InvalidData) if what is there is not what
    /// the table of contents says, by length or checksum.
    pub fn read(&self, zip: &File, bytes: &mut Vec<u8>) -> io::Result<()> {
        let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut header = [0; HEADER];
        read_at(zip, &mut header, self.header)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(damaged("no file begins where the zip's contents say"));
        }
        let number = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let start = self.header + HEADER as u64 + number(26) + number(28);
        if self.packed.max(self.unpacked) > MAX_LEN {
            return Err(damaged("claims to be larger than 1 GiB"));
        }
        // No memory for what is not there.
        if start.saturating_add(self.packed) > zip.metadata()?.len() {
            return Err(damaged("goes on after the end of the zip"));
        }
        bytes.clear();
        if self.deflated {
            let mut packed = vec![0; self.packed as usize];
            read_at(zip, &mut packed, start)?;
            self.inflate(&packed, bytes)?;
        } else {
            bytes.resize(self.packed as usize, 0);
            read_at(zip, bytes, start)?;
        }
        let mut crc = Crc::new();
        crc.update(bytes);
        if bytes.len() as u64 != self.unpacked || crc.sum() != self.crc {
            return Err(damaged(
                "its checksum or length is another than the zip's contents say",
            ));
        }
        Ok(())
    }

    fn inflate(&self, packed: &[u8], bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut inflate = Decompress::new(false);
        // Grows with what comes out, up to one byte more than claimed.
        while bytes.len() as u64 <= self.unpacked {
            let room = (self.unpacked as usize + 1 - bytes.len()).min(bytes.len().max(1 << 16));
            bytes.reserve_exact(room);
            let from = &packed[inflate.total_in() as usize..];
            let before = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress_vec(from, bytes, FlushDecompress::Finish);
            let status = status.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let stuck = (inflate.total_in(), inflate.total_out()) == before;
            if status == Status::StreamEnd || stuck {
                break;
            }
        }
        Ok(())
    }
}

/// Reads at a place without moving the file's own, so that threads share one file.
#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                bytes = &mut bytes[n..];
                at += n as u64;
            }
        }
    }
    Ok(())
}
