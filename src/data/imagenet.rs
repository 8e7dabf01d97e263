//! ImageNet: a folder of pictures for each class.

use std::path::{Path, PathBuf};

use super::dataset::{ImageDataset, ImageShape};
use super::pictures::read_squares;
use super::split::Limits;
use crate::error::Result;
use crate::error::{DataError, DataResult, FileName};

pub(super) const SHAPE: ImageShape = ImageShape::new(3, 224, 224);
/// The usual crop: 224 of the 256 pixels that the shorter side is resized to.
const SHARE: f64 = 224.0 / 256.0;

/// Reads ImageNet, or other pictures in its layout: `(train, test)` of 3x224x224, the second from
/// the validation images, since the test images' labels are not public.
///
/// `path` is a folder with `train` and `val`, each with a folder of JPEGs or PNGs for each class.
/// The labels are the places of the classes' folders in `train` in alphabetical order. Of each
/// picture the square in its middle with 7/8 of the shorter side is taken. With a limit the classes'
/// counts differ by at most one, if the files suffice.
///
/// Source: O. Russakovsky et al., *ImageNet Large Scale Visual Recognition Challenge*, 2015.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) if a folder is missing or a picture is damaged;
/// [`Error::Parameter`](crate::Error::Parameter) if the pictures do not fit into memory.
pub fn imagenet(path: impl AsRef<Path>, limits: Limits) -> Result<(ImageDataset, ImageDataset)> {
    let path = path.as_ref();
    let (train, test) = (path.join("train"), path.join("val"));
    let classes = list(&train, Path::is_dir)?;
    if classes.is_empty() {
        let expected = "class's folder".into();
        return Err(DataError::Missing {
            path: train,
            expected,
        }
        .into());
    }
    Ok((
        read(&train, &classes, limits.train)?,
        read(&test, &classes, limits.test)?,
    ))
}

fn read(folder: &Path, classes: &[String], limit: Option<usize>) -> Result<ImageDataset> {
    // (rank in the class, label, file): sorted, the classes take turns.
    let mut files: Vec<(usize, u16, PathBuf)> = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let class = folder.join(class);
        let pictures = list(&class, is_picture)?.into_iter().enumerate();
        files.extend(pictures.map(|(rank, name)| (rank, label as u16, class.join(name))));
    }
    if let Some(limit) = limit {
        files.sort_unstable();
        files.truncate(limit);
    }
    let labels = files.iter().map(|&(_, label, _)| label).collect();
    let paths: Vec<PathBuf> = files.into_iter().map(|(_, _, path)| path).collect();
    let pixels = read_squares(&paths, SHAPE, SHARE)?;
    ImageDataset::new(pixels, labels, SHAPE, classes.len())?
        .with_class_names(classes.iter().cloned())
}

/// The names of what `folder` holds and `wanted` wants, in alphabetical order.
fn list(folder: &Path, wanted: impl Fn(&Path) -> bool) -> DataResult<Vec<String>> {
    let error = |source| DataError::Io {
        file: FileName {
            archive: None,
            file: folder.into(),
        },
        offset: 0,
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if let Some(name) = path.file_name().and_then(|n| n.to_str()) {
            if wanted(&path) {
                names.push(name.to_owned());
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| matches!(&*e.to_ascii_lowercase(), "jpeg" | "jpg" | "png"))
}
