//! Archives: which are refused, and that none takes memory by its claims.

use super::super::source::read_all;
use super::super::{idx, DataError};
use super::idx::small;
use super::*;

#[test]
fn what_is_no_archive() {
    for (bytes, found) in [(&b"<html>"[..], "3c 68"), (b"P", "50"), (b"", "nothing")] {
        let (_dir, path) = one_file("a.zip", bytes);
        let e = data_error(idx(&path, 10));
        assert!(matches!(e, DataError::NotAnArchive { .. }), "{e}");
        says(e, &[&show(&path), found]);
    }
}

#[test]
fn a_file_that_is_there_twice() {
    let (train, test, files) = small();
    let with = |labels: &[u8]| {
        let again = ("raw/train-labels-idx1-ubyte.gz".into(), gz(labels));
        [&files[..], &[again]].concat()
    };
    let mut other = files[1].1.clone();
    other[8] ^= 1;
    let (same, other) = (with(&files[1].1), with(&other));
    for (same, other) in [
        (zip(&same), zip(&other)),
        (tar(&same), tar(&other)),
        (tar_gz(&same), tar_gz(&other)),
    ] {
        let (_dir, path) = one_file("archive", &same);
        assert_eq!(idx(&path, 10).unwrap(), (train.clone(), test.clone()));
        let (_dir, path) = one_file("archive", &other);
        let e = data_error(idx(&path, 10));
        assert!(matches!(e, DataError::Ambiguous { .. }), "{e}");
        says(e, &["both train-labels-idx1-ubyte and raw/", &show(&path)]);
    }
    assert!(idx(folder(&same).path(), 10).is_ok());
    let dir = folder(&other);
    let e = data_error(idx(dir.path(), 10));
    says(
        e,
        &[
            "train-labels-idx1-ubyte and",
            "raw/train-labels-idx1-ubyte.gz",
        ],
    );
}

#[test]
fn a_gzip_with_a_wrong_checksum() {
    let (_, _, mut files) = small();
    files[2].0 += ".gz";
    files[2].1 = gz(&files[2].1);
    let at = files[2].1.len() - 8;
    files[2].1[at] ^= 1;
    let dir = folder(&files);
    let (_zip_dir, zip_path) = one_file("a.zip", &zip(&files));
    for path in [dir.path(), &zip_path] {
        let e = data_error(idx(path, 10));
        assert!(matches!(e, DataError::Decompress { offset: 34, .. }), "{e}");
        says(e, &["t10k-images-idx3-ubyte.gz", &show(path), "byte 34"]);
    }
}

#[test]
fn bytes_after_a_gzip() {
    let (_, _, mut files) = small();
    files[0].0 += ".gz";
    files[0].1 = [gz(&files[0].1), b"more".to_vec()].concat();
    let dir = folder(&files);
    let e = data_error(idx(dir.path(), 10));
    assert!(matches!(e, DataError::Decompress { .. }), "{e}");
}

#[test]
fn no_memory_is_taken_for_what_is_not_there() {
    // A capacity of 2^60 would abort the process.
    let (_dir, path) = one_file("a", b"12345");
    let read = super::super::source::read_file(&path, |input| input.bytes(1 << 60, "the test"));
    let e = read.unwrap_err();
    assert!(matches!(e, DataError::Truncated { offset: 5, .. }), "{e}");
}

#[test]
fn a_bomb_is_not_unpacked() {
    // 64 MiB of zeros behind a file of 11 bytes, as .gz, in a zip and in a tar.gz: one more byte
    // than expected is read.
    let (_, _, files) = small();
    let bomb = |b: &mut Vec<u8>| b.resize(64 << 20, 0);
    let files = changed(&files, "t10k-labels-idx1-ubyte", bomb);
    for bytes in [zip(&files), tar_gz(&files)] {
        assert!(bytes.len() < 1 << 20);
        let (_dir, path) = one_file("archive", &bytes);
        let names: [&super::super::source::Names; 1] = [&["t10k-labels-idx1-ubyte"]];
        let mut most = 0;
        let result = read_all(&path, &[], &names, |_, input| {
            input.bytes(11, "the test")?;
            let end = input.end("the test");
            most = input.offset();
            end
        });
        let e = result.unwrap_err();
        assert!(
            matches!(e, DataError::Oversized { expected: 11, .. }),
            "{e}"
        );
        assert_eq!(most, 11);
        let e = data_error(idx(&path, 10));
        assert!(
            matches!(e, DataError::Oversized { expected: 11, .. }),
            "{e}"
        );
    }
}

#[test]
fn a_tar_header_that_claims_too_much() {
    let mut header = tar::Header::new_ustar();
    header.set_path("train-images-idx3-ubyte").unwrap();
    header.set_size(1 << 32);
    header.set_cksum();
    let short = [header.as_bytes().to_vec(), small().2[0].1.clone()].concat();
    let (_dir, path) = one_file("a.tar.gz", &gz(&short));
    assert!(idx(&path, 10).is_err());

    // A name of 4 GiB is not read into memory: its record is skipped.
    let mut header = tar::Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 32);
    header.set_cksum();
    let (_dir, path) = one_file("a.tar.gz", &gz(header.as_bytes()));
    assert!(idx(&path, 10).is_err());
}
