//! Files cut off at every byte and changed at every byte: an error or the right data, never a
//! panic.

use std::path::Path;

use super::super::cifar::read;
use super::super::{idx, DataError, ImageDataset};
use super::cifar::{files10, SMALL10};
use super::idx::small;
use super::*;
use crate::error::Result;

type Pair = (ImageDataset, ImageDataset);

fn read_idx(path: &Path) -> Result<Pair> {
    idx(path, 10)
}

fn read_cifar(path: &Path) -> Result<Pair> {
    read(path, &SMALL10)
}

/// Cuts `bytes` off at every length; `path` is read, `file` is the file that has the bytes.
fn cut_everywhere(bytes: &[u8], file: &Path, path: &Path, read: impl Fn(&Path) -> Result<Pair>) {
    for len in 0..bytes.len() {
        std::fs::write(file, &bytes[..len]).unwrap();
        let message = data_error(read(path)).to_string();
        assert!(message.contains(&show(file)), "{len}: {message}");
    }
    std::fs::write(file, bytes).unwrap();
    assert!(read(path).is_ok());
}

#[test]
fn plain_files_cut_off() {
    let (_, _, files) = small();
    let dir = folder(&files);
    for (name, bytes) in &files {
        cut_everywhere(bytes, &dir.path().join(name), dir.path(), read_idx);
        // Where the cut is, exactly.
        for len in 0..bytes.len() {
            std::fs::write(dir.path().join(name), &bytes[..len]).unwrap();
            match data_error(idx(dir.path(), 10)) {
                DataError::Truncated {
                    offset, expected, ..
                } => {
                    assert_eq!(offset, len as u64);
                    assert!(expected > offset && expected <= bytes.len() as u64);
                }
                e => panic!("{name} cut to {len}: {e}"),
            }
        }
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let files = files10();
    let dir = folder(&files);
    let (name, bytes) = &files[5];
    cut_everywhere(bytes, &dir.path().join(name), dir.path(), read_cifar);
}

#[test]
fn gzipped_files_cut_off() {
    let (_, _, mut files) = small();
    for (name, bytes) in &mut files {
        *name += ".gz";
        *bytes = gz(bytes);
    }
    let dir = folder(&files);
    for (name, bytes) in &files {
        cut_everywhere(bytes, &dir.path().join(name), dir.path(), read_idx);
    }
}

#[test]
fn archives_cut_off() {
    let (_, _, files) = small();
    for bytes in [zip(&files), tar_gz(&files)] {
        let (_dir, path) = one_file("archive", &bytes);
        cut_everywhere(&bytes, &path, &path, read_idx);
    }
    for bytes in [zip(&files10()), tar_gz(&files10())] {
        let (_dir, path) = one_file("archive", &bytes);
        cut_everywhere(&bytes, &path, &path, read_cifar);
    }
}

/// Changes every byte of `bytes` in several ways. The checksums see to it that what can still be
/// read is right.
fn change_everywhere(bytes: &[u8], file: &Path, path: &Path, read: impl Fn(&Path) -> Result<Pair>) {
    let right = read(path).unwrap();
    let mut errors = 0;
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() {
        for mask in [0x01, 0x20, 0x80, 0xff] {
            bytes[at] ^= mask;
            std::fs::write(file, &bytes).unwrap();
            match read(path) {
                Ok(pair) => assert!(pair == right, "byte {at} ^ {mask:#04x}: wrong data"),
                Err(_) => errors += 1,
            }
            bytes[at] ^= mask;
        }
    }
    assert!(errors > bytes.len(), "{errors} errors");
}

#[test]
fn gzipped_files_changed() {
    let (_, _, mut files) = small();
    files[0].0 += ".gz";
    files[0].1 = gz(&files[0].1);
    let dir = folder(&files);
    let (name, bytes) = &files[0];
    change_everywhere(bytes, &dir.path().join(name), dir.path(), read_idx);
}

#[test]
fn archives_changed() {
    let (_, _, files) = small();
    for bytes in [zip(&files), tar_gz(&files)] {
        let (_dir, path) = one_file("archive", &bytes);
        change_everywhere(&bytes, &path, &path, read_idx);
    }
    for bytes in [zip(&files10()), tar_gz(&files10())] {
        let (_dir, path) = one_file("archive", &bytes);
        change_everywhere(&bytes, &path, &path, read_cifar);
    }
}
