//! Tests of the readers, and the small files and archives that they read.

mod batch;
mod cifar;
mod damage;
mod idx;
mod kept;
mod pictures;
mod source;
mod task;

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::Compression;
use tempfile::TempDir;

use super::{DataError, DatasetKind};
use crate::error::Error;

/// Names and contents of files.
type Files = Vec<(String, Vec<u8>)>;

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(files: &Files) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, bytes) in files {
        zip.start_file(name.as_str(), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn tar_gz(files: &Files) -> Vec<u8> {
    gz(&tar(files))
}

fn tar(files: &Files) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A folder that has `files`, and is removed when it is dropped.
fn folder(files: &Files) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    dir
}

/// A folder with one file, and the file's path.
fn one_file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = folder(&vec![(name.to_string(), bytes.to_vec())]);
    let path = dir.path().join(name);
    (dir, path)
}

/// The files with `change` applied to the contents of `name`.
fn changed(files: &Files, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    let file = files.iter_mut().find(|(n, _)| n == name).unwrap();
    change(&mut file.1);
    files
}

fn without(files: &Files, name: &str) -> Files {
    files.iter().filter(|(n, _)| n != name).cloned().collect()
}

fn data_error<T>(result: Result<T, Error>) -> DataError {
    match result {
        Err(Error::Data(e)) => e,
        Err(e) => panic!("another error: {e}"),
        Ok(_) => panic!("no error"),
    }
}

/// Asserts that `message` has each of `parts`.
#[track_caller]
fn says(message: impl std::fmt::Display, parts: &[&str]) {
    let message = message.to_string();
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn kinds_have_names() {
    for kind in DatasetKind::ALL {
        assert_eq!(kind.to_string().parse::<DatasetKind>().unwrap(), kind);
    }
    let e = "imagenet".parse::<DatasetKind>().unwrap_err();
    says(e, &["imagenet", "cifar100-coarse"]);
}
