//! The IDX format of MNIST and Fashion-MNIST.
//!
//! A file of images is four big-endian 32-bit numbers (magic 0x00000803, count, rows, columns) and
//! the pixels, a byte each; a file of labels is two (magic 0x00000801, count) and the labels.

use std::path::Path;

use super::dataset::{ImageDataset, ImageShape};
use super::reader::Input;
use super::source::{read_all, read_file, Names};
use crate::error::{DataError, DataResult, FileName};
use crate::error::{Error, Result};

/// Unsigned bytes (8) in 3 dimensions.
const IMAGES_MAGIC: u32 = 0x0803;
/// Unsigned bytes (8) in 1 dimension.
const LABELS_MAGIC: u32 = 0x0801;
/// Most pixels in a file: larger headers are taken for damaged, before any memory is used.
const MAX_PIXELS: u64 = 1 << 30;

/// The names that a file of MNIST can have, or one of EMNIST's six data sets.
macro_rules! names {
    ($mnist:literal, $part:literal, $images:literal, $idx:literal) => {
        &[
            concat!($mnist, "-", $images, "-", $idx, "-ubyte"),
            concat!($mnist, "-", $images, ".", $idx, "-ubyte"),
            concat!("emnist-letters-", $part, "-", $images, "-", $idx, "-ubyte"),
            concat!("emnist-digits-", $part, "-", $images, "-", $idx, "-ubyte"),
            concat!("emnist-balanced-", $part, "-", $images, "-", $idx, "-ubyte"),
            concat!("emnist-byclass-", $part, "-", $images, "-", $idx, "-ubyte"),
            concat!("emnist-bymerge-", $part, "-", $images, "-", $idx, "-ubyte"),
            concat!("emnist-mnist-", $part, "-", $images, "-", $idx, "-ubyte"),
        ]
    };
}

/// The four files of a data set in the order of [`read_all`]'s results. EMNIST's for test are called
/// `test`.
const FILES: [&Names; 4] = [
    names!("train", "train", "images", "idx3"),
    names!("train", "train", "labels", "idx1"),
    names!("t10k", "test", "images", "idx3"),
    names!("t10k", "test", "labels", "idx1"),
];

/// Where torchvision puts the files.
const INNER: [&str; 4] = ["raw", "MNIST/raw", "FashionMNIST/raw", "EMNIST/raw"];

/// Reads a data set in the IDX format with labels below `classes`: `(train, test)`.
///
/// `path` is a folder, a zip, a tar or a tar.gz with the files `train-images-idx3-ubyte`,
/// `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, or EMNIST's
/// (`emnist-letters-train-images-idx3-ubyte`, ...), each plain or gzipped (`.gz`). Labels that run
/// from 1 to `classes`, as those of EMNIST's letters do, are taken for 0 to `classes` - 1.
///
/// # Errors
/// [`Error::Data`] if a file is missing, damaged or not of this format.
pub fn idx(path: impl AsRef<Path>, classes: usize) -> Result<(ImageDataset, ImageDataset)> {
    let path = path.as_ref();
    let mut parts = read_all(path, &INNER, &FILES, |i, input| match i % 2 {
        0 => Ok(Part::Images(images(input)?)),
        _ => Ok(Part::Labels(labels(input)?)),
    })?;
    let all = parts.iter_mut().filter_map(|part| match part {
        Part::Labels(labels) => Some(labels),
        Part::Images(_) => None,
    });
    check_labels(&mut all.collect::<Vec<_>>(), classes)?;
    let mut parts = parts.into_iter();
    let mut pair = || match (parts.next(), parts.next()) {
        (Some(Part::Images(i)), Some(Part::Labels(l))) => join(i, l, classes),
        // `read_all` returns one result for each file, in the order of FILES.
        _ => Err(Error::parameter("path", path.display(), "an IDX data set")),
    };
    let (train, test) = (pair()?, pair()?);
    if train.shape() != test.shape() {
        return Err(Error::shape(
            "data::idx",
            "images for testing",
            format_args!("{} as for training", train.shape()),
            format_args!("{}", test.shape()),
        ));
    }
    Ok((train, test))
}

/// Reads one file of images and one of labels in the IDX format, each plain or gzipped, as [`idx`]
/// reads those of a data set.
///
/// # Errors
/// As [`idx`].
pub fn idx_files(
    images_file: impl AsRef<Path>,
    labels_file: impl AsRef<Path>,
    classes: usize,
) -> Result<ImageDataset> {
    let images = read_file(images_file.as_ref(), images)?;
    let mut labels = read_file(labels_file.as_ref(), labels)?;
    check_labels(&mut [&mut labels], classes)?;
    join(images, labels, classes)
}

/// The contents of the two IDX files, images and labels, of a data set.
///
/// # Errors
/// [`Error::Parameter`] if the format cannot hold it: more than one channel or 256 classes, or
/// sizes above 2^32 - 1; as [`ImageDataset::image`].
pub fn encode_idx(data: &ImageDataset) -> Result<(Vec<u8>, Vec<u8>)> {
    let shape = data.shape();
    if shape.channels != 1 {
        return Err(Error::parameter("channels", shape.channels, "1 in IDX"));
    }
    if data.is_multi_label() {
        let what = "attributes";
        return Err(Error::parameter("labels", what, "classes in IDX"));
    }
    if data.classes() > 256 {
        return Err(Error::parameter(
            "classes",
            data.classes(),
            "at most 256 in IDX",
        ));
    }
    let pixels = data.pixels()?;
    let mut images = Vec::with_capacity(16 + pixels.len());
    let mut labels = Vec::with_capacity(8 + data.len());
    let put = |file: &mut Vec<u8>, n: usize| {
        let n32 = u32::try_from(n).map_err(|_| Error::parameter("size", n, "below 2^32 in IDX"))?;
        file.extend_from_slice(&n32.to_be_bytes());
        Ok::<_, Error>(())
    };
    put(&mut images, IMAGES_MAGIC as usize)?;
    for size in [data.len(), shape.height, shape.width] {
        put(&mut images, size)?;
    }
    images.extend_from_slice(&pixels);
    put(&mut labels, LABELS_MAGIC as usize)?;
    put(&mut labels, data.len())?;
    // Below 256, so the low byte is the label.
    labels.extend(data.labels().iter().map(|&l| l as u8));
    Ok((images, labels))
}

#[derive(PartialEq)]
enum Part {
    Images(Images),
    Labels(Labels),
}

struct Images {
    name: FileName,
    count: usize,
    shape: ImageShape,
    pixels: Vec<u8>,
}

struct Labels {
    name: FileName,
    /// Where the first lies in the file.
    offset: u64,
    labels: Vec<u8>,
}

/// By their contents: the names may differ.
impl PartialEq for Images {
    fn eq(&self, other: &Self) -> bool {
        (self.shape, &self.pixels) == (other.shape, &other.pixels)
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        self.labels == other.labels
    }
}

fn magic(input: &mut Input, expected: u32) -> DataResult<()> {
    let found = input.u32()?;
    if found != expected {
        return Err(DataError::Header {
            file: input.name.clone(),
            offset: 0,
            what: "magic number",
            expected: format!("{expected:#010x}"),
            found: format!("{found:#010x}"),
        });
    }
    Ok(())
}

/// A size in the header, from 1 to `max`.
fn size(input: &mut Input, what: &'static str, max: u64) -> DataResult<u64> {
    let offset = input.offset();
    let found = u64::from(input.u32()?);
    if found == 0 || found > max {
        return Err(DataError::Header {
            file: input.name.clone(),
            offset,
            what,
            expected: format!("1 to {max}"),
            found: found.to_string(),
        });
    }
    Ok(found)
}

fn images(input: &mut Input) -> DataResult<Images> {
    magic(input, IMAGES_MAGIC)?;
    // Each size leaves so much room for the next: the product stays within MAX_PIXELS.
    let count = size(input, "number of images", MAX_PIXELS)?;
    let height = size(input, "number of rows", MAX_PIXELS / count)?;
    let width = size(input, "number of columns", MAX_PIXELS / count / height)?;
    let pixels = input.bytes(count * height * width, "the pixels")?;
    input.end("the pixels")?;
    Ok(Images {
        name: input.name.clone(),
        count: count as usize,
        shape: ImageShape::new(1, height as usize, width as usize),
        pixels,
    })
}

fn labels(input: &mut Input) -> DataResult<Labels> {
    magic(input, LABELS_MAGIC)?;
    let count = size(input, "number of labels", MAX_PIXELS)?;
    let offset = input.offset();
    let labels = input.bytes(count, "the labels")?;
    input.end("the labels")?;
    Ok(Labels {
        name: input.name.clone(),
        offset,
        labels,
    })
}

/// Checks the labels of a data set's files, and makes those that run from 1 run from 0.
///
/// Each of 1 to `classes` has to occur, and 0 not: one damaged label does not pass for a data set that
/// counts from 1. EMNIST's letters are known to.
fn check_labels(files: &mut [&mut Labels], classes: usize) -> DataResult<()> {
    let mut seen = [false; 256];
    for file in files.iter() {
        file.labels
            .iter()
            .for_each(|&l| seen[usize::from(l)] = true);
    }
    let letters = |file: &&mut Labels| {
        let name = file.name.file.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("emnist-letters-"))
    };
    let all = seen
        .get(1..=classes)
        .is_some_and(|all| all.iter().all(|&seen| seen));
    if !seen[0] && (all || files.iter().all(letters)) {
        let labels = files.iter_mut().flat_map(|file| &mut file.labels);
        labels.for_each(|label| *label -= 1);
    }
    for file in files {
        if let Some(i) = file.labels.iter().position(|&l| usize::from(l) >= classes) {
            return Err(DataError::Label {
                file: file.name.clone(),
                offset: file.offset + i as u64,
                label: file.labels[i].into(),
                classes,
            });
        }
    }
    Ok(())
}

fn join(images: Images, labels: Labels, classes: usize) -> Result<ImageDataset> {
    if images.count != labels.labels.len() {
        return Err(DataError::Count {
            labels: labels.labels.len(),
            labels_file: labels.name,
            images: images.count,
            images_file: images.name,
        }
        .into());
    }
    let labels = labels.labels.into_iter().map(u16::from).collect();
    ImageDataset::new(images.pixels, labels, images.shape, classes)
}
