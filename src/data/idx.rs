//! The IDX format of MNIST and Fashion-MNIST.
//!
//! A file of images is four big-endian 32-bit numbers (magic 0x00000803, count, rows, columns) and
//! the pixels, a byte each; a file of labels is two (magic 0x00000801, count) and the labels.

use std::path::Path;

use super::dataset::{ImageDataset, ImageShape};
use super::source::{read_all, read_file, Input, Names};
use crate::error::{DataError, DataResult, FileName};
use crate::error::{Error, Result};

/// Unsigned bytes (8) in 3 dimensions.
const IMAGES_MAGIC: u32 = 0x0803;
/// Unsigned bytes (8) in 1 dimension.
const LABELS_MAGIC: u32 = 0x0801;
/// Most pixels in a file: larger headers are taken for damaged, before any memory is used.
const MAX_PIXELS: u64 = 1 << 30;

/// The four files of a data set in the order of [`read_all`]'s results.
const FILES: [&Names; 4] = [
    &["train-images-idx3-ubyte", "train-images.idx3-ubyte"],
    &["train-labels-idx1-ubyte", "train-labels.idx1-ubyte"],
    &["t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"],
    &["t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"],
];

/// Reads a data set in the IDX format with labels below `classes`: `(train, test)`.
///
/// `path` is a folder, a zip or a tar.gz with the files `train-images-idx3-ubyte`,
/// `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each plain or
/// gzipped (`.gz`).
///
/// # Errors
/// [`Error::Data`] if a file is missing, damaged or not of this format.
pub fn idx(path: impl AsRef<Path>, classes: usize) -> Result<(ImageDataset, ImageDataset)> {
    let path = path.as_ref();
    let parts = read_all(path, &[], &FILES, |i, input| match i % 2 {
        0 => Ok(Part::Images(images(input)?)),
        _ => Ok(Part::Labels(labels(input, classes)?)),
    })?;
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

/// Reads one file of images and one of labels, below `classes`, in the IDX format, each gzipped if
/// its name ends in `.gz`.
///
/// # Errors
/// As [`idx`].
pub fn idx_files(
    images_file: impl AsRef<Path>,
    labels_file: impl AsRef<Path>,
    classes: usize,
) -> Result<ImageDataset> {
    let images = read_file(images_file.as_ref(), images)?;
    let labels = read_file(labels_file.as_ref(), |input| labels(input, classes))?;
    join(images, labels, classes)
}

/// The contents of the two IDX files, images and labels, of a data set.
///
/// # Errors
/// [`Error::Parameter`] if the format cannot hold it: more than one channel or 256 classes, or
/// sizes above 2^32 - 1.
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
    let mut images = Vec::with_capacity(16 + data.images().len());
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
    images.extend_from_slice(data.images());
    put(&mut labels, LABELS_MAGIC as usize)?;
    put(&mut labels, data.len())?;
    // Below 256, so the low byte is the label.
    labels.extend(data.labels().iter().map(|&l| l as u8));
    Ok((images, labels))
}

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
    labels: Vec<u16>,
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

fn labels(input: &mut Input, classes: usize) -> DataResult<Labels> {
    magic(input, LABELS_MAGIC)?;
    let count = size(input, "number of labels", MAX_PIXELS)?;
    let start = input.offset();
    let bytes = input.bytes(count, "the labels")?;
    input.end("the labels")?;
    if let Some(i) = bytes.iter().position(|&l| usize::from(l) >= classes) {
        return Err(DataError::Label {
            file: input.name.clone(),
            offset: start + i as u64,
            label: bytes[i].into(),
            classes,
        });
    }
    Ok(Labels {
        name: input.name.clone(),
        labels: bytes.into_iter().map(u16::from).collect(),
    })
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
    ImageDataset::new(images.pixels, labels.labels, images.shape, classes)
}
