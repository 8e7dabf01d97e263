//! Checksums put right after a change, so that what lies behind them is reached.

use std::io::Write;

/// A tar's headers.
pub fn tar(bytes: &mut [u8]) {
    let mut at = 0;
    while at + 512 <= bytes.len() {
        let header = &mut bytes[at..at + 512];
        if header.iter().all(|&b| b == 0) {
            return;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        let text = format!("{sum:06o}\0 ");
        header[148..156].copy_from_slice(&text.as_bytes()[..8]);
        let size = header[124..136]
            .iter()
            .filter(|b| (b'0'..=b'7').contains(b));
        let size = size.fold(0u64, |n, b| n.wrapping_mul(8) + u64::from(b - b'0'));
        let Some(next) = usize::try_from(size.min(1 << 30))
            .ok()
            .map(|s| s.div_ceil(512))
        else {
            return;
        };
        at += 512 * (1 + next);
    }
}

/// A PNG's chunks.
pub fn png(bytes: &mut [u8]) {
    let mut at = 8;
    while at + 12 <= bytes.len() {
        let len = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let Some(end) = (at + 8)
            .checked_add(len as usize)
            .filter(|end| end + 4 <= bytes.len())
        else {
            return;
        };
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zip of a file; stored, its contents can be changed.
pub fn zip(files: &[(&str, &[u8])], stored: bool) -> Vec<u8> {
    let method = match stored {
        true => zip::CompressionMethod::Stored,
        false => zip::CompressionMethod::Deflated,
    };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}
