//! The CIFAR reader: every way in, every error.

use super::super::cifar::{read, Layout, CIFAR10, CIFAR100, CIFAR100_COARSE};
use super::super::{cifar10, cifar100, cifar100_coarse, DataError, ImageShape};
use super::*;

/// CIFAR-10 with two records in a training file and one for testing.
pub(super) const SMALL10: Layout = Layout {
    train_records: 2,
    test_records: 1,
    ..CIFAR10
};
pub(super) const SMALL100: Layout = Layout {
    train_records: 3,
    test_records: 2,
    ..CIFAR100
};

/// The pixels of record `n`: its number, and values that tell the places apart.
fn pixels(n: usize) -> Vec<u8> {
    (0..3072).map(|i| (n * 31 + i / 16) as u8).collect()
}

pub(super) fn files10() -> Files {
    let record = |n: usize| [vec![(n * 3 % 10) as u8], pixels(n)].concat();
    let mut files: Files = (0..5)
        .map(|b| {
            let records = [record(2 * b), record(2 * b + 1)].concat();
            (format!("data_batch_{}.bin", b + 1), records)
        })
        .collect();
    files.push(("test_batch.bin".into(), record(10)));
    files
}

fn files100() -> Files {
    let record = |n: usize| [vec![n as u8, 99 - n as u8], pixels(n)].concat();
    vec![
        (
            "train.bin".into(),
            [record(0), record(1), record(2)].concat(),
        ),
        ("test.bin".into(), [record(18), record(19)].concat()),
    ]
}

fn inside(folder: &str, files: &Files) -> Files {
    let mut files: Files = files
        .iter()
        .map(|(n, b)| (format!("{folder}/{n}"), b.clone()))
        .collect();
    files.insert(0, (format!("{folder}/readme.html"), b"Not read".to_vec()));
    files
}

/// Each way to keep `files`.
fn ways(files: &Files, enclosing: &str) -> Vec<(TempDir, PathBuf)> {
    let mut all = Vec::new();
    let mut reversed = files.clone();
    reversed.reverse();
    for files in [files.clone(), inside(enclosing, files)] {
        let dir = folder(&files);
        let path = dir.path().to_path_buf();
        all.push((dir, path));
    }
    for files in [files.clone(), inside(enclosing, files), reversed] {
        all.push(one_file("a.zip", &zip(&files)));
        all.push(one_file("a.tar.gz", &tar_gz(&files)));
        all.push(one_file("a.tar", &tar(&files)));
    }
    all
}

#[test]
fn cifar_10_in_folders_and_archives() {
    for (_dir, path) in ways(&files10(), "cifar-10-batches-bin") {
        let (train, test) = read(&path, &SMALL10).unwrap();
        assert_eq!(train.shape(), ImageShape::new(3, 32, 32));
        assert_eq!(train.labels(), [0, 3, 6, 9, 2, 5, 8, 1, 4, 7]);
        assert_eq!((train.classes(), &train.class_names()[3][..]), (10, "cat"));
        for n in 0..10 {
            assert_eq!(*train.image(n).unwrap(), pixels(n), "{}", path.display());
        }
        assert_eq!(test.labels(), [0]);
        assert_eq!(test.pixels().unwrap(), pixels(10));
    }
}

#[test]
fn cifar_100_has_classes_and_superclasses() {
    for (_dir, path) in ways(&files100(), "cifar-100-binary") {
        let (train, test) = read(&path, &SMALL100).unwrap();
        assert_eq!(
            (train.labels(), test.labels()),
            (&[99, 98, 97][..], &[81, 80][..])
        );
        assert_eq!(
            (train.classes(), &train.class_names()[99][..]),
            (100, "worm")
        );
        assert_eq!(*test.image(1).unwrap(), pixels(19));
        let coarse = Layout {
            train_records: 3,
            test_records: 2,
            ..CIFAR100_COARSE
        };
        let (train, test) = read(&path, &coarse).unwrap();
        assert_eq!(
            (train.labels(), test.labels()),
            (&[0, 1, 2][..], &[18, 19][..])
        );
        assert_eq!(
            (train.classes(), &train.class_names()[14][..]),
            (20, "people")
        );
    }
}

#[test]
fn the_real_files_have_ten_and_fifty_thousand_records() {
    let dir = folder(&inside("cifar-10-batches-bin", &files10()));
    let e = data_error(cifar10(dir.path()));
    says(
        e,
        &["data_batch_1.bin", "ends at byte 6146", "30730000 bytes"],
    );
    let dir = folder(&files100());
    for e in [cifar100(dir.path()), cifar100_coarse(dir.path())] {
        says(
            data_error(e),
            &["train.bin", "ends at byte 9222", "153700000 bytes"],
        );
    }
}

#[test]
fn too_long() {
    let files = changed(&files10(), "data_batch_4.bin", |b| b.push(1));
    for (_dir, path) in ways(&files, "cifar-10-batches-bin") {
        let e = data_error(read(&path, &SMALL10));
        assert!(
            matches!(e, DataError::Oversized { expected: 6146, .. }),
            "{e}"
        );
        says(e, &["data_batch_4.bin", &show(&path), "6146"]);
    }
}

#[test]
fn too_short() {
    let files = changed(&files10(), "data_batch_4.bin", |b| b.truncate(3073));
    for (_dir, path) in ways(&files, "cifar-10-batches-bin") {
        let e = data_error(read(&path, &SMALL10));
        assert!(
            matches!(
                e,
                DataError::Truncated {
                    offset: 3073,
                    expected: 6146,
                    ..
                }
            ),
            "{e}"
        );
        says(e, &["data_batch_4.bin", &show(&path)]);
    }
}

#[test]
fn labels_out_of_range() {
    let dir = folder(&changed(&files10(), "data_batch_2.bin", |b| b[3073] = 10));
    says(
        data_error(read(dir.path(), &SMALL10)),
        &["data_batch_2.bin", "byte 3073", "label 10", "less than 10"],
    );
    let dir = folder(&changed(&files100(), "test.bin", |b| b[3075] = 100));
    says(
        data_error(read(dir.path(), &SMALL100)),
        &["test.bin", "byte 3075", "label 100", "less than 100"],
    );
    // A superclass is checked even where it is not used.
    let dir = folder(&changed(&files100(), "test.bin", |b| b[3074] = 20));
    says(
        data_error(read(dir.path(), &SMALL100)),
        &["test.bin", "byte 3074", "label 20", "less than 20"],
    );
}

#[test]
fn missing_files() {
    for name in ["data_batch_3.bin", "test_batch.bin"] {
        for (_dir, path) in ways(&without(&files10(), name), "cifar-10-batches-bin") {
            let e = data_error(read(&path, &SMALL10));
            assert!(matches!(e, DataError::Missing { .. }), "{e}");
            says(e, &[name, &show(&path)]);
        }
    }
}
