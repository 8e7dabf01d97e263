//! The binary version of CIFAR-10 and CIFAR-100.
//!
//! A file is a row of records: one label byte (CIFAR-10) or two (CIFAR-100: superclass, class),
//! then 3 x 32 x 32 pixels, a byte each, in (C, H, W) order.

use std::path::Path;

use super::dataset::{ImageDataset, ImageShape};
use super::names;
use super::reader::Input;
use super::source::{holds, read_all, Names};
use crate::error::Result;
use crate::error::{DataError, DataResult};

const SHAPE: ImageShape = ImageShape::new(3, 32, 32);
const PIXELS: usize = 3 * 32 * 32;

/// How a data set lies in its files.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub title: &'static str,
    /// The folder that the archives have it in.
    pub folder: &'static str,
    /// The archive of this version.
    pub archive: &'static str,
    /// Files that only other versions have, their folder, and what those versions are called.
    pub others: &'static [(&'static str, &'static str, &'static str)],
    /// The files for training, each with as many records as `train_records`.
    pub train: &'static [&'static Names],
    pub train_records: usize,
    pub test: &'static Names,
    pub test_records: usize,
    /// The number of values of each label byte.
    pub label_bytes: &'static [usize],
    /// The label byte that is the class.
    pub label: usize,
    pub class_names: &'static [&'static str],
}

pub(super) const CIFAR10: Layout = Layout {
    title: "CIFAR-10",
    folder: "cifar-10-batches-bin",
    archive: "cifar-10-binary.tar.gz",
    others: &[
        ("data_batch_1", "cifar-10-batches-py", "Python"),
        ("data_batch_1.mat", "cifar-10-batches-mat", "Matlab"),
    ],
    train: &[
        &["data_batch_1.bin"],
        &["data_batch_2.bin"],
        &["data_batch_3.bin"],
        &["data_batch_4.bin"],
        &["data_batch_5.bin"],
    ],
    train_records: 10_000,
    test: &["test_batch.bin"],
    test_records: 10_000,
    label_bytes: &[10],
    label: 0,
    class_names: &names::CIFAR10,
};

pub(super) const CIFAR100: Layout = Layout {
    title: "CIFAR-100",
    folder: "cifar-100-binary",
    archive: "cifar-100-binary.tar.gz",
    others: &[
        ("meta", "cifar-100-python", "Python"),
        ("meta.mat", "cifar-100-matlab", "Matlab"),
    ],
    train: &[&["train.bin"]],
    train_records: 50_000,
    test: &["test.bin"],
    test_records: 10_000,
    label_bytes: &[20, 100],
    label: 1,
    class_names: &names::CIFAR100,
};

pub(super) const CIFAR100_COARSE: Layout = Layout {
    label: 0,
    class_names: &names::CIFAR100_COARSE,
    ..CIFAR100
};

/// Reads CIFAR-10, binary version: `(train, test)` of 50,000 and 10,000 images of 3x32x32.
///
/// `path` is a tar, a tar.gz, a zip or a folder with the files `data_batch_1.bin` to `data_batch_5.bin`
/// and `test_batch.bin`, or with the folder `cifar-10-batches-bin` that has them.
///
/// Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) if a file is missing, damaged or not of this format.
pub fn cifar10(path: impl AsRef<Path>) -> Result<(ImageDataset, ImageDataset)> {
    read(path.as_ref(), &CIFAR10)
}

/// Reads CIFAR-100, binary version, with its 100 classes: `(train, test)` of 50,000 and 10,000
/// images of 3x32x32.
///
/// `path` is a tar, a tar.gz, a zip or a folder with the files `train.bin` and `test.bin`, or with the
/// folder `cifar-100-binary` that has them. Source as for [`cifar10`].
///
/// # Errors
/// As [`cifar10`].
pub fn cifar100(path: impl AsRef<Path>) -> Result<(ImageDataset, ImageDataset)> {
    read(path.as_ref(), &CIFAR100)
}

/// [`cifar100`] with its 20 superclasses as the labels.
///
/// # Errors
/// As for [`cifar100`].
pub fn cifar100_coarse(path: impl AsRef<Path>) -> Result<(ImageDataset, ImageDataset)> {
    read(path.as_ref(), &CIFAR100_COARSE)
}

pub(super) fn read(path: &Path, layout: &Layout) -> Result<(ImageDataset, ImageDataset)> {
    let mut wanted = layout.train.to_vec();
    wanted.push(layout.test);
    let files = layout.train.len();
    let mut parts = read_all(path, &[layout.folder], &wanted, |i, input| {
        let count = if i < files {
            layout.train_records
        } else {
            layout.test_records
        };
        records(input, count, layout)
    })
    .map_err(|error| match error {
        DataError::Missing { .. } => other_version(path, layout).unwrap_or(error),
        error => error,
    })?;
    let test = parts.split_off(files);
    Ok((join(parts, layout)?, join(test, layout)?))
}

/// [`cifar10`], or [`cifar100`] if `fine`, with two records in each file for training and one in that for
/// tests: small enough to be read a million times.
pub fn few_records(path: &Path, fine: bool) -> Result<(ImageDataset, ImageDataset)> {
    let layout = Layout {
        train_records: 2,
        test_records: 1,
        ..if fine { CIFAR100 } else { CIFAR10 }
    };
    read(path, &layout)
}

/// The error for a folder or archive that holds another version of the data set.
fn other_version(path: &Path, layout: &Layout) -> Option<DataError> {
    let is_there = |&&(file, folder, _): &&(&str, &str, &str)| holds(path, &[folder], file);
    let (file, _, version) = layout.others.iter().find(is_there)?;
    Some(DataError::Layout {
        path: path.into(),
        expected: format!("{}'s binary version, {}", layout.title, layout.archive),
        found: format!("its {version} version ({file})"),
    })
}

#[derive(PartialEq)]
struct Records {
    pixels: Vec<u8>,
    labels: Vec<u16>,
}

fn records(input: &mut Input, count: usize, layout: &Layout) -> DataResult<Records> {
    let label_bytes = layout.label_bytes.len();
    let record = label_bytes + PIXELS;
    input.expect((count * record) as u64);
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let start = input.offset();
        let bytes = input.bytes(record as u64, "the records")?;
        let (record_labels, record_pixels) = bytes.split_at(label_bytes);
        for (i, (&label, &classes)) in record_labels.iter().zip(layout.label_bytes).enumerate() {
            if usize::from(label) >= classes {
                return Err(DataError::Label {
                    file: input.name.clone(),
                    offset: start + i as u64,
                    label: label.into(),
                    classes,
                });
            }
        }
        labels.push(record_labels[layout.label].into());
        pixels.extend_from_slice(record_pixels);
    }
    input.end("the records")?;
    Ok(Records { pixels, labels })
}

fn join(parts: Vec<Records>, layout: &Layout) -> Result<ImageDataset> {
    let mut parts = parts.into_iter();
    let (mut pixels, mut labels) = match parts.next() {
        Some(first) => (first.pixels, first.labels),
        None => (Vec::new(), Vec::new()),
    };
    for part in parts {
        pixels.extend(part.pixels);
        labels.extend(part.labels);
    }
    ImageDataset::new(pixels, labels, SHAPE, layout.label_bytes[layout.label])?
        .with_class_names(layout.class_names.iter().copied())
}
