//! ImageNet: a folder of pictures for each class.

use std::path::Path;

use super::classes::{classes, pictures};
use super::dataset::{ImageDataset, ImageShape, Labels};
use super::fit::Fit;
use super::picture::Pictures;
use super::split::Limits;
use super::tree::{join, Tree};
use crate::error::Result;

pub(super) const SHAPE: ImageShape = ImageShape::new(3, 224, 224);
/// The usual crop: 224 of the 256 pixels that a side is resized to.
const SHARE: f64 = 224.0 / 256.0;

/// Finds ImageNet, or other pictures in its layout: `(train, test)` of 3x224x224, the second from
/// the validation images, since the test images' labels are not public. The pictures are
/// [decoded when they are asked for](ImageDataset::is_lazy).
///
/// `path` is a folder, or a zip, with `train` and `val`, each with a folder of JPEGs or PNGs for each
/// class, in which they can lie deeper. Hidden files and folders are left out. The labels are the places
/// of the classes' folders in `train` in alphabetical order. Of each picture the middle 7/8 of its height
/// and of its width are taken (as if it were squeezed to 256x256 and 224x224 cut out, the way of arXiv
/// 2408.12561; [`Fit::Square`] takes 7/8 of the shorter side from both), as it lies in the file (an
/// Exif orientation is not heeded). With a limit the classes' counts differ by at most one, if the files
/// suffice.
///
/// Source: O. Russakovsky et al., *ImageNet Large Scale Visual Recognition Challenge*, 2015.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) if a folder is missing, is not a class's or has no picture, or
/// if there are pictures of a format that is not read.
pub fn imagenet(path: impl AsRef<Path>, limits: Limits) -> Result<(ImageDataset, ImageDataset)> {
    let tree = Tree::open(path.as_ref())?;
    let root = tree.descend("", &["train"]);
    let (train, test) = (join(&root, "train"), join(&root, "val"));
    let classes = classes(&tree, &train)?;
    let part = |at: &str, limit| read(&tree, at, &classes, limit, SHAPE.height, SHARE);
    Ok((
        part(&train, limits.train)?.with_fit(Fit::Squeeze),
        part(&test, limits.test)?.with_fit(Fit::Squeeze),
    ))
}

/// The pictures at a place of a tree, by class.
pub(super) fn read(
    tree: &Tree,
    at: &str,
    classes: &[String],
    limit: Option<usize>,
    side: usize,
    share: f64,
) -> Result<ImageDataset> {
    let (places, labels) = pictures(tree, at, classes, limit)?;
    let files = Pictures::new(tree, &places)?;
    let labels = Labels::Class(labels.into());
    ImageDataset::of_pictures(files, share, side, labels, classes.len())?
        .with_class_names(classes.iter().cloned())
}
