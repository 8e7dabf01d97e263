//! The IDX reader: every way in, every error.

use super::super::ImageShape;
use super::super::{encode_idx, idx, idx_files, load, mnist, DataError, DatasetKind, ImageDataset};
use super::*;

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

/// `n` images of 1x3x2 of ten classes.
fn data(n: usize, first: u8) -> ImageDataset {
    let images = (0..6 * n)
        .map(|i| first.wrapping_add(7 * i as u8))
        .collect();
    let labels = (0..n).map(|i| (3 * i % 10) as u16).collect();
    ImageDataset::new(images, labels, ImageShape::new(1, 3, 2), 10).unwrap()
}

/// Five training images and three test images, and their files.
pub(super) fn small() -> (ImageDataset, ImageDataset, Files) {
    let (train, test) = (data(5, 1), data(3, 100));
    let (a, b) = encode_idx(&train).unwrap();
    let (c, d) = encode_idx(&test).unwrap();
    let names = [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS];
    let files = names.map(String::from).into_iter().zip([a, b, c, d]);
    (train, test, files.collect())
}

#[test]
fn the_format_byte_by_byte() {
    let images = [
        0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 11, 12, 13,
    ];
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 9, 4];
    let (_a, images_file) = one_file("some-images", &images);
    let (_b, labels_file) = one_file("some-labels", &labels);
    let data = idx_files(images_file, labels_file, 10).unwrap();
    assert_eq!(data.shape(), ImageShape::new(1, 1, 2));
    assert_eq!(data.pixels().unwrap(), [10, 11, 12, 13]);
    assert_eq!(data.labels(), [9, 4]);
    assert_eq!(
        encode_idx(&data).unwrap(),
        (images.to_vec(), labels.to_vec())
    );
}

#[test]
fn folder_zip_tar_and_tar_gz_plain_and_gzipped() {
    let (train, test, files) = small();
    let gzipped: Files = files
        .iter()
        .map(|(n, b)| (format!("{n}.gz"), gz(b)))
        .collect();
    let inner: Files = files
        .iter()
        .map(|(n, b)| (format!("MNIST/raw/{n}"), b.clone()))
        .collect();
    let dotted: Files = files
        .iter()
        .map(|(n, b)| (n.replace("-idx", ".idx"), b.clone()))
        .collect();
    let mixed = [&files[..2], &gzipped[2..]].concat();
    let mut paths = Vec::new();
    for files in [&files, &gzipped, &dotted, &mixed] {
        let dir = folder(files);
        paths.push((dir.path().to_path_buf(), dir));
    }
    for files in [&files, &gzipped, &inner, &dotted, &mixed] {
        // The kind is told by the contents, not by the name.
        for bytes in [zip(files), tar_gz(files), tar(files)] {
            let (dir, path) = one_file("archive", &bytes);
            paths.push((path, dir));
        }
    }
    for (path, _dir) in &paths {
        let read = idx(path, 10).unwrap();
        assert_eq!(read, (train.clone(), test.clone()), "{}", path.display());
    }
    assert_eq!(paths.len(), 19);
    let (named, _) = mnist(&paths[0].0).unwrap();
    assert_eq!(named.class_names()[7], "7");
    let (fashion, _) = load(&paths[0].0, DatasetKind::FashionMnist).unwrap();
    assert_eq!(fashion.class_names()[7], "Sneaker");
}

#[test]
fn wrong_magic() {
    let (_, _, files) = small();
    let swapped = changed(&files, TRAIN_IMAGES, |b| b[3] = 1);
    let dir = folder(&swapped);
    let e = data_error(idx(dir.path(), 10));
    let path = show(&dir.path().join(TRAIN_IMAGES));
    says(
        e,
        &[
            &path,
            "byte 0",
            "magic",
            "expected 0x00000803",
            "found 0x00000801",
        ],
    );

    let (_dir, path) = one_file("a.zip", &zip(&changed(&files, TEST_LABELS, |b| b[2] = 9)));
    let e = data_error(idx(&path, 10));
    says(
        e,
        &[
            TEST_LABELS,
            " in ",
            &show(&path),
            "0x00000801",
            "0x00000901",
        ],
    );
}

#[test]
fn headers_that_cannot_be() {
    let (_, _, files) = small();
    for (offset, value, what) in [
        (4, 0u32, "number of images"),
        (8, 0, "number of rows"),
        (12, 0, "number of columns"),
        (4, u32::MAX, "number of images"),
        (8, u32::MAX, "number of rows"),
        (12, u32::MAX, "number of columns"),
        // 5 * 3 * this is just above 2^30.
        (12, 71_582_789, "number of columns"),
    ] {
        let put = |b: &mut Vec<u8>| b[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        let dir = folder(&changed(&files, TRAIN_IMAGES, put));
        let e = data_error(idx(dir.path(), 10));
        let at = format!("byte {offset}:");
        says(e, &[TRAIN_IMAGES, &at, what, &format!("found {value}")]);
    }
    let dir = folder(&changed(&files, TRAIN_LABELS, |b| b[7] = 0));
    says(
        data_error(idx(dir.path(), 10)),
        &["number of labels", "found 0"],
    );
}

#[test]
fn a_large_claim_is_not_believed() {
    let (_, _, files) = small();
    // 5 images of 3 x 71,582,788: just below the limit, and not there.
    let claim = |b: &mut Vec<u8>| b[12..16].copy_from_slice(&71_582_788u32.to_be_bytes());
    let (_dir, path) = one_file("a.zip", &zip(&changed(&files, TRAIN_IMAGES, claim)));
    let e = data_error(idx(&path, 10));
    assert!(
        matches!(
            e,
            DataError::Truncated {
                offset: 46,
                expected: 1_073_741_836,
                ..
            }
        ),
        "{e}"
    );
}

#[test]
fn too_long() {
    let (_, _, files) = small();
    for (name, len) in [(TRAIN_IMAGES, 46), (TEST_LABELS, 11)] {
        let files = changed(&files, name, |b| b.push(0));
        let dir = folder(&files);
        let (_zip_dir, zip_path) = one_file("a.zip", &zip(&files));
        for path in [dir.path(), &zip_path] {
            let e = data_error(idx(path, 10));
            assert!(matches!(e, DataError::Oversized { .. }), "{e}");
            says(e, &[name, &show(path), &format!("expected {len} bytes")]);
        }
    }
}

#[test]
fn labels_out_of_range() {
    let (_, _, files) = small();
    let dir = folder(&changed(&files, TRAIN_LABELS, |b| b[8 + 3] = 10));
    says(
        data_error(idx(dir.path(), 10)),
        &[TRAIN_LABELS, "byte 11", "label 10", "less than 10"],
    );
    assert!(idx(dir.path(), 11).is_ok());
}

#[test]
fn counts_that_differ() {
    let (_, _, files) = small();
    let one_less = |b: &mut Vec<u8>| {
        b.pop();
        b[7] -= 1;
    };
    let dir = folder(&changed(&files, TRAIN_LABELS, one_less));
    says(
        data_error(idx(dir.path(), 10)),
        &[TRAIN_LABELS, "4 labels", TRAIN_IMAGES, "5 images"],
    );
}

#[test]
fn sizes_that_differ_between_training_and_test() {
    let (_, _, files) = small();
    let transposed = |b: &mut Vec<u8>| b.swap(11, 15);
    let dir = folder(&changed(&files, TEST_IMAGES, transposed));
    says(idx(dir.path(), 10).unwrap_err(), &["1x3x2", "1x2x3"]);
}

#[test]
fn missing_files() {
    let (_, _, files) = small();
    for name in [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS] {
        let files = without(&files, name);
        let dir = folder(&files);
        let (_zip_dir, zip_path) = one_file("a.zip", &zip(&files));
        let (_tar_dir, tar_path) = one_file("a.tgz", &tar_gz(&files));
        for path in [dir.path(), &zip_path, &tar_path] {
            let e = data_error(idx(path, 10));
            assert!(matches!(e, DataError::Missing { .. }), "{e}");
            says(e, &[name, &show(path)]);
        }
    }
    let e = data_error(idx("/nowhere/at/all", 10));
    assert!(matches!(e, DataError::Io { .. }), "{e}");
    says(e, &["/nowhere/at/all"]);
}

#[test]
fn what_the_format_cannot_hold() {
    let rgb = ImageDataset::new(vec![0; 3], vec![0], ImageShape::new(3, 1, 1), 1).unwrap();
    says(encode_idx(&rgb).unwrap_err(), &["channels = 3"]);
    let many = ImageDataset::new(vec![0], vec![256], ImageShape::new(1, 1, 1), 257).unwrap();
    says(encode_idx(&many).unwrap_err(), &["classes = 257"]);
}

#[test]
fn labels_that_run_from_1() {
    let labels: Vec<u16> = (0..26).chain([3]).collect();
    let shape = ImageShape::new(1, 1, 1);
    let of = |labels: &[u16], classes| {
        let data = ImageDataset::new(vec![9; labels.len()], labels.to_vec(), shape, classes);
        encode_idx(&data.unwrap()).unwrap()
    };
    // As they lie in EMNIST's files: 1 to 26.
    let raised: Vec<u16> = labels.iter().map(|l| l + 1).collect();
    let (images, train) = of(&raised, 27);
    // Those for test alone would not tell.
    let (test_images, test) = of(&[2, 1], 27);
    for names in [
        [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS],
        [
            "emnist-letters-train-images-idx3-ubyte",
            "emnist-letters-train-labels-idx1-ubyte",
            "emnist-letters-test-images-idx3-ubyte",
            "emnist-letters-test-labels-idx1-ubyte",
        ],
    ] {
        let bytes = [&images, &train, &test_images, &test].map(Vec::clone);
        let files: Files = names.map(String::from).into_iter().zip(bytes).collect();
        let dir = folder(&files);
        let (found, found_test) = load(dir.path(), DatasetKind::EmnistLetters).unwrap();
        assert_eq!(found.labels(), labels);
        assert_eq!(found_test.labels(), [1, 0]);
        assert_eq!(found.class_names()[25], "z");
    }
    // One class is missing: a label of 26 is then a wrong one.
    let (images, train) = of(&raised[1..], 27);
    let (_a, images) = one_file("images", &images);
    let (_b, labels) = one_file("labels", &train);
    let e = data_error(idx_files(&images, &labels, 26));
    says(e, &["label 26", "byte 32", "less than 26"]);
    let few = changed(&vec![("l".into(), train)], "l", |b| b[8..].fill(26));
    let (_c, letters) = one_file("emnist-letters-train-labels-idx1-ubyte", &few[0].1);
    let found = idx_files(&images, &letters, 26).unwrap();
    assert_eq!(found.labels(), [25; 26]);
}
