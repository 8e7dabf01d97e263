//! Data sets as people have them, which are not always as their makers gave them out.

use std::path::Path;

use super::super::cifar::read;
use super::super::{cifar10, idx, mnist, ImageShape};
use super::cifar::{files10, SMALL10};
use super::idx::small;
use super::*;

/// A folder in tests/fixtures/cases.
pub(super) fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/cases")
        .join(name)
}

#[test]
fn the_names_of_mnist_do_not_say_what_is_packed() {
    let (train, test) = mnist(case("mnist_gz_by_name")).unwrap();
    assert_eq!((train.len(), test.len()), (12, 12));
    assert_eq!(train.shape(), ImageShape::new(1, 28, 28));

    let (train, test, mut files) = small();
    files[0].0 += ".gz";
    files[1].1 = gz(&files[1].1);
    let dir = folder(&files);
    let (_zip, zip) = one_file("a.zip", &zip(&files));
    let (_tar, tar) = one_file("a.tar", &tar(&files));
    for path in [dir.path(), &zip, &tar] {
        assert_eq!(idx(path, 10).unwrap(), (train.clone(), test.clone()));
    }
}

#[test]
fn mnist_with_each_file_twice() {
    let (train, test, files) = small();
    let twice: Files = files
        .iter()
        .flat_map(|(name, bytes)| {
            let dotted = name.replace("-idx", ".idx");
            [dotted, format!("{name}/{name}")].map(|name| (name, bytes.clone()))
        })
        .collect();
    let dir = folder(&twice);
    let (_zip, zip) = one_file("archive.zip", &zip(&twice));
    for path in [dir.path(), &zip] {
        assert_eq!(idx(path, 10).unwrap(), (train.clone(), test.clone()));
    }
}

#[test]
fn backslashes_set_the_folders_of_a_zip_apart() {
    let (train, test, files) = small();
    let files: Files = files
        .into_iter()
        .map(|(name, bytes)| (format!("MNIST\\raw\\{name}"), bytes))
        .collect();
    let (_dir, path) = one_file("a.zip", &zip(&files));
    assert_eq!(idx(&path, 10).unwrap(), (train, test));
}

#[test]
fn hidden_files_of_a_mac_are_no_files_of_a_data_set() {
    let (train, test, files) = small();
    let hidden = files.iter().flat_map(|(name, _)| {
        [format!("._{name}"), format!("__MACOSX/._{name}")].map(|name| (name, b"Mac OS X".to_vec()))
    });
    let files: Files = hidden.chain(files.clone()).collect();
    let dir = folder(&files);
    let (_zip, zip) = one_file("a.zip", &zip(&files));
    for path in [dir.path(), &zip] {
        assert_eq!(idx(path, 10).unwrap(), (train.clone(), test.clone()));
    }
}

#[test]
fn other_versions_of_cifar_are_named_with_the_right_file() {
    let e = data_error(cifar10(case("cifar10_python_version")));
    says(
        e,
        &["Python version", "data_batch_1", "cifar-10-binary.tar.gz"],
    );
    let files: Files = vec![("cifar-100-python/meta".into(), vec![1])];
    let (_dir, path) = one_file("cifar-100-python.tar.gz", &tar_gz(&files));
    let e = data_error(super::super::cifar100(&path));
    says(
        e,
        &["Python version", "cifar-100-binary.tar.gz", &show(&path)],
    );
    let files: Files = vec![("data_batch_1.mat".into(), vec![1])];
    says(
        data_error(cifar10(folder(&files).path())),
        &["Matlab version"],
    );
}

#[test]
fn a_tar_of_old_without_its_magic() {
    let mut bytes = tar(&files10());
    let header = tar::Header::from_byte_slice(&bytes[..512]).clone();
    let mut old = tar::Header::new_old();
    old.set_path("data_batch_1.bin").unwrap();
    old.set_size(header.size().unwrap());
    old.set_mode(0o644);
    old.set_cksum();
    bytes[..512].copy_from_slice(old.as_bytes());
    let (_dir, path) = one_file("cifar.tar", &bytes);
    assert!(read(&path, &SMALL10).is_ok());
    bytes[0] ^= 1;
    let (_dir, path) = one_file("cifar.tar", &bytes);
    says(data_error(read(&path, &SMALL10)), &["tar", &show(&path)]);
}
