//! The checksum of a file, in its metadata: XXH3 (64 bits) of the whole file, its own digits as zeros.
//!
//! A file without one is read as it is, so a damaged key must not hide it. Key and kind stand side by
//! side, and one of them is left whole by any damage of fewer bytes than lie between them: where one
//! is without the other, the file is damaged.

use xxhash_rust::xxh3::Xxh3;

/// Its key in the metadata, which is not shown to users.
pub(super) const KEY: &str = "ssprop.checksum";
const KIND: &str = "xxh3-64:";
const DIGITS: usize = 16;
const ZEROS: &[u8; DIGITS] = b"0000000000000000";
/// The longest header that the format allows.
const LONGEST_HEADER: usize = 100_000_000;

/// The value before [`seal`].
pub(super) fn placeholder() -> String {
    format!("{KIND}{:0DIGITS$}", 0)
}

/// Sets the checksum in `head`, which is the file's length field and header, before these data.
pub(super) fn seal<'a>(head: &mut [u8], data: impl Iterator<Item = &'a [u8]>) {
    let Some(at) = find(head, entry().as_bytes()).map(|at| at + entry().len()) else {
        return;
    };
    let mut hash = Xxh3::new();
    hash.update(head);
    data.for_each(|data| hash.update(data));
    head[at..at + DIGITS].copy_from_slice(digits(&hash).as_bytes());
}

/// An error, which says why, if the file has a checksum that is not that of its bytes.
pub(super) fn verify(file: &[u8]) -> Result<(), String> {
    let Some((length, rest)) = file.split_first_chunk() else {
        return Ok(());
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let header = &rest[..rest.len().min(length).min(LONGEST_HEADER)];
    let marks = [format!("\"{KEY}\""), format!("\"{KIND}")];
    if marks
        .iter()
        .all(|mark| find(header, mark.as_bytes()).is_none())
    {
        return Ok(());
    }
    let at = find(header, entry().as_bytes()).map(|at| at + entry().len());
    let Some((at, stored)) = at.and_then(|at| Some((at, header.get(at..at + DIGITS)?))) else {
        return Err("its checksum is not whole".to_owned());
    };
    let mut hash = Xxh3::new();
    hash.update(&file[..8 + at]);
    hash.update(ZEROS);
    hash.update(&file[8 + at + DIGITS..]);
    let found = digits(&hash);
    if stored == found.as_bytes() {
        return Ok(());
    }
    let stored = String::from_utf8_lossy(stored);
    Err(format!(
        "its checksum is {stored}, that of its bytes {found}; or rewritten by a program that should \
         have left out the metadata `{KEY}`"
    ))
}

/// What stands before the digits. In other text the quotes would be escaped.
fn entry() -> String {
    format!("\"{KEY}\":\"{KIND}")
}

fn digits(hash: &Xxh3) -> String {
    format!("{:0DIGITS$x}", hash.digest())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
