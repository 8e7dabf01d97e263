//! CelebA: faces with 40 attributes each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::dataset::{ImageDataset, ImageShape};
use super::pictures::read_squares;
use super::split::{Limits, Splits, VALIDATION};
use crate::error::Result;
use crate::error::{DataError, DataResult, FileName};

pub(super) const SHAPE: ImageShape = ImageShape::new(3, 64, 64);

const ATTRIBUTES: &str = "list_attr_celeba.txt";
const PARTITION: &str = "list_eval_partition.txt";
const IMAGES: &str = "img_align_celeba";
/// The folders that the data set's own layout has its files in.
const INNER: [&str; 4] = ["", "Anno", "Eval", "Img"];

/// Reads the aligned images of CelebA: the square in the middle of each, resized to 3x64x64, with
/// its attributes, split as the data set's own partition says.
///
/// `path` is a folder with `img_align_celeba` (the JPEGs), `list_attr_celeba.txt` and
/// `list_eval_partition.txt`, directly or in `Img`, `Anno` and `Eval`. With a limit, the first
/// images of each part are read: of the limit for training a fifth are for validation.
///
/// Source: Z. Liu, P. Luo, X. Wang, X. Tang, *Deep Learning Face Attributes in the Wild*, 2015.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) if a file is missing, damaged or not of this format.
pub fn celeba(path: impl AsRef<Path>, limits: Limits) -> Result<Splits> {
    let path = path.as_ref();
    let (names, faces) = attributes(&find(path, ATTRIBUTES)?)?;
    let parts = partition(&find(path, PARTITION)?)?;
    let images = find(path, IMAGES)?;

    let validation = limits
        .train
        .map(|n| (n as f64 * VALIDATION).round() as usize);
    let train = limits.train.map(|n| n - validation.unwrap_or(0).min(n));
    let mut wanted = [train, validation, limits.test]
        .map(|limit| (limit.unwrap_or(usize::MAX), Vec::new(), Vec::new()));
    for face in faces {
        let Some(&part) = parts.get(&face.file) else {
            let e = DataError::Missing {
                path: path.join(PARTITION),
                expected: format!("{}, which {ATTRIBUTES} lists", face.file),
            };
            return Err(e.into());
        };
        let (limit, files, attributes) = &mut wanted[part];
        if files.len() < *limit {
            files.push(images.join(face.file));
            attributes.extend(face.attributes);
        }
    }
    let [train, validation, test] = wanted.map(|(_, files, attributes)| {
        let pixels = read_squares(&files, SHAPE, 1.0)?;
        ImageDataset::multi_label(pixels, attributes, SHAPE, names.len())?
            .with_class_names(names.iter().cloned())
    });
    Ok(Splits {
        train: train?,
        validation: validation?,
        test: test?,
    })
}

/// A file or folder, directly or in one of the inner folders.
fn find(path: &Path, name: &str) -> DataResult<PathBuf> {
    let mut places = INNER.iter().map(|inner| path.join(inner).join(name));
    places
        .find(|place| place.exists())
        .ok_or_else(|| DataError::Missing {
            path: path.into(),
            expected: name.into(),
        })
}

struct Face {
    file: String,
    attributes: Vec<bool>,
}

/// The attributes' names, and the lines: a file's name and 1 or -1 for each attribute.
fn attributes(path: &Path) -> DataResult<(Vec<String>, Vec<Face>)> {
    let text = text(path)?;
    let mut lines = text.lines().enumerate();
    let mut header = |expected: &str| {
        lines
            .next()
            .map(|(_, line)| line.trim())
            .filter(|line| !line.is_empty())
            .ok_or_else(|| line_error(path, 0, expected, "the end of the file"))
    };
    let count = header("the number of images")?;
    let count: usize = count
        .parse()
        .map_err(|_| line_error(path, 0, "the number of images", count))?;
    let names: Vec<String> = header("the attributes' names")?
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let mut faces = Vec::new();
    for (number, line) in lines {
        let mut words = line.split_whitespace();
        let Some(file) = words.next() else {
            continue;
        };
        let value = |word| match word {
            "1" => Ok(true),
            "-1" => Ok(false),
            other => Err(line_error(path, number, "1 or -1", other)),
        };
        let attributes: Vec<bool> = words.map(value).collect::<DataResult<_>>()?;
        if attributes.len() != names.len() {
            let expected = format!("{} attributes", names.len());
            return Err(line_error(path, number, &expected, attributes.len()));
        }
        faces.push(Face {
            file: file.to_owned(),
            attributes,
        });
    }
    if faces.len() != count {
        let found = format!("{} lines of images", faces.len());
        return Err(line_error(path, 0, &found, count));
    }
    Ok((names, faces))
}

/// The lines' file names with 0 (training), 1 (validation) or 2 (test).
fn partition(path: &Path) -> DataResult<HashMap<String, usize>> {
    let mut parts = HashMap::new();
    for (number, line) in text(path)?.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(file) = words.next() else {
            continue;
        };
        let part = match words.next() {
            Some("0") => 0,
            Some("1") => 1,
            Some("2") => 2,
            other => {
                let found = other.unwrap_or("the end of the line");
                return Err(line_error(path, number, "0, 1 or 2", found));
            }
        };
        parts.insert(file.to_owned(), part);
    }
    Ok(parts)
}

fn text(path: &Path) -> DataResult<String> {
    std::fs::read_to_string(path).map_err(|source| DataError::Io {
        file: FileName {
            archive: None,
            file: path.into(),
        },
        offset: 0,
        source,
    })
}

/// `number` counts lines from 0, the message from 1.
fn line_error(
    path: &Path,
    number: usize,
    expected: &str,
    found: impl std::fmt::Display,
) -> DataError {
    DataError::Line {
        path: path.into(),
        line: number + 1,
        expected: expected.into(),
        found: found.to_string(),
    }
}
