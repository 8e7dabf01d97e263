//! CelebA: faces with 40 attributes each.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::dataset::{ImageDataset, ImageShape, Labels};
use super::fit::Fit;
use super::picture::Pictures;
use super::split::{Limits, Splits, VALIDATION};
use super::tree::{join, Tree};
use crate::error::Result;
use crate::error::{DataError, DataResult};

pub(super) const SHAPE: ImageShape = ImageShape::new(3, 64, 64);

const ATTRIBUTES: [&str; 2] = ["list_attr_celeba.txt", "list_attr_celeba.csv"];
const PARTITION: [&str; 2] = ["list_eval_partition.txt", "list_eval_partition.csv"];
const IMAGES: &str = "img_align_celeba";
const IMAGES_ZIP: &str = "img_align_celeba.zip";
/// The folders that the data set's own layout has its files in.
const INNER: [&str; 4] = ["", "Anno", "Eval", "Img"];

/// Finds the aligned images of CelebA, each of 218x178 squeezed to 3x64x64 (unless told
/// [otherwise](ImageDataset::with_fit)), with its attributes, split as the data set's own partition says.
/// The pictures are [decoded when they are asked for](ImageDataset::is_lazy).
///
/// `path` is a folder with `img_align_celeba` (the JPEGs, or a folder of that name which has them) or
/// `img_align_celeba.zip`, which is read without unpacking it, `list_attr_celeba.txt` and
/// `list_eval_partition.txt` (or `.csv`), directly or in `Img`, `Anno` and `Eval`; or it is a zip
/// of such a folder. With a limit, the first images of each part are taken: of the limit for training a
/// fifth are for validation.
///
/// Source: Z. Liu, P. Luo, X. Wang, X. Tang, *Deep Learning Face Attributes in the Wild*, 2015.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) if a file is missing, or a list is damaged or not of this format.
pub fn celeba(path: impl AsRef<Path>, limits: Limits) -> Result<Splits> {
    let tree = Tree::open(path.as_ref())?;
    let root = tree.descend(
        "",
        &[IMAGES, IMAGES_ZIP, ATTRIBUTES[0], ATTRIBUTES[1], "Anno"],
    );
    let attributes_file = list(&tree, &root, &ATTRIBUTES)?;
    let (names, faces) = attributes(&tree, &attributes_file)?;
    let partition_file = list(&tree, &root, &PARTITION)?;
    let parts = partition(&tree, &partition_file)?;
    let (zip, folder) = images(&tree, &root)?;
    let pictures = zip.as_ref().unwrap_or(&tree);
    let there = pictures.list(&folder)?;
    let there: HashSet<&str> = there.iter().map(|child| &*child.name).collect();

    let validation = limits
        .train
        .map(|n| (n as f64 * VALIDATION).round() as usize);
    let train = limits.train.map(|n| n - validation.unwrap_or(0).min(n));
    let mut wanted = [train, validation, limits.test]
        .map(|limit| (limit.unwrap_or(usize::MAX), Vec::new(), Vec::new()));
    for face in faces {
        let Some(&part) = parts.get(&face.file) else {
            let e = DataError::Missing {
                path: tree.show(&partition_file),
                expected: format!("{}, which {attributes_file} lists", face.file),
            };
            return Err(e.into());
        };
        let (limit, files, attributes) = &mut wanted[part];
        if files.len() < *limit {
            if !there.contains(&*face.file) {
                let e = DataError::Missing {
                    path: pictures.show(&folder),
                    expected: format!("{}, which {attributes_file} lists", face.file),
                };
                return Err(e.into());
            }
            files.push(join(&folder, &face.file));
            attributes.extend(face.attributes);
        }
    }
    let [train, validation, test] = wanted.map(|(_, files, attributes)| {
        let files = Pictures::new(pictures, &files)?;
        let labels = Labels::Attributes(attributes.into());
        ImageDataset::of_pictures(files, 1.0, SHAPE.height, labels, names.len())?
            .with_fit(Fit::Squeeze)
            .with_class_names(names.iter().cloned())
    });
    Ok(Splits {
        train: train?,
        validation: validation?,
        test: test?,
    })
}

/// A place, directly or in one of the inner folders, that is wanted.
fn find(root: &str, name: &str, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let places = INNER.iter().map(|inner| match *inner {
        "" => join(root, name),
        inner => join(&join(root, inner), name),
    });
    places.into_iter().find(|place| wanted(place))
}

fn list(tree: &Tree, root: &str, names: &[&str]) -> DataResult<String> {
    let found = names
        .iter()
        .find_map(|name| find(root, name, |at| tree.is_file(at)));
    found.ok_or_else(|| DataError::Missing {
        path: tree.show(root),
        expected: names.join(" or "),
    })
}

/// The folder with the pictures, and the zip that it is in, if it is another one than `tree`.
fn images(tree: &Tree, root: &str) -> DataResult<(Option<Tree>, String)> {
    // Archives have been made with one more folder of the same name inside.
    let inner = |tree: &Tree, at: String| {
        let nested = join(&at, IMAGES);
        if tree.is_folder(&nested) {
            nested
        } else {
            at
        }
    };
    if let Some(at) = find(root, IMAGES, |at| tree.is_folder(at)) {
        return Ok((None, inner(tree, at)));
    }
    if let (Tree::Folder(_), Some(at)) = (tree, find(root, IMAGES_ZIP, |at| tree.is_file(at))) {
        let zip = Tree::open(&tree.show(&at))?;
        let at = inner(&zip, inner(&zip, String::new()));
        return Ok((Some(zip), at));
    }
    Err(DataError::Missing {
        path: tree.show(root),
        expected: format!("{IMAGES} (the folder) or {IMAGES_ZIP}"),
    })
}

struct Face {
    file: String,
    attributes: Vec<bool>,
}

/// The words of a line, set apart by commas in a CSV and by spaces elsewhere.
fn words(line: &str, csv: bool) -> impl Iterator<Item = &str> {
    let commas = csv.then(|| line.split(',').map(|word| word.trim().trim_matches('"')));
    let spaces = (!csv).then(|| line.split_whitespace());
    let words = commas
        .into_iter()
        .flatten()
        .chain(spaces.into_iter().flatten());
    words.filter(|word| !word.is_empty())
}

/// The attributes' names, and the lines: a file's name and 1 or -1 for each attribute. The text begins
/// with the number of images and the names, a CSV with the names after that of the files' column.
fn attributes(tree: &Tree, at: &str) -> DataResult<(Vec<String>, Vec<Face>)> {
    let (path, text) = (tree.show(at), tree.text(at)?);
    let path = &*path;
    let csv = is_csv(&text);
    let mut lines = text.lines().enumerate();
    let mut header = |expected: &str| {
        lines
            .next()
            .map(|(_, line)| line.trim())
            .filter(|line| !line.is_empty())
            .ok_or_else(|| line_error(path, 0, expected, "the end of the file"))
    };
    let count = match csv {
        true => None,
        false => {
            let count = header("the number of images")?;
            let number = count.parse::<usize>();
            Some(number.map_err(|_| line_error(path, 0, "the number of images", count))?)
        }
    };
    let names: Vec<String> = words(header("the attributes' names")?, csv)
        .skip(usize::from(csv))
        .map(str::to_owned)
        .collect();
    let mut faces = Vec::new();
    for (number, line) in lines {
        let mut words = words(line, csv);
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
    if let Some(count) = count.filter(|&count| count != faces.len()) {
        let found = format!("{} lines of images", faces.len());
        return Err(line_error(path, 0, &found, count));
    }
    Ok((names, faces))
}

/// The lines' file names with 0 (training), 1 (validation) or 2 (test). A CSV begins with its columns'
/// names.
fn partition(tree: &Tree, at: &str) -> DataResult<HashMap<String, usize>> {
    let (path, text) = (tree.show(at), tree.text(at)?);
    let csv = is_csv(&text);
    let mut parts = HashMap::new();
    for (number, line) in text.lines().enumerate().skip(usize::from(csv)) {
        let mut words = words(line, csv);
        let Some(file) = words.next() else {
            continue;
        };
        let part = match words.next() {
            Some("0") => 0,
            Some("1") => 1,
            Some("2") => 2,
            other => {
                let found = other.unwrap_or("the end of the line");
                return Err(line_error(&path, number, "0, 1 or 2", found));
            }
        };
        parts.insert(file.to_owned(), part);
    }
    Ok(parts)
}

/// Whether a list is a CSV, whatever its name.
fn is_csv(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.contains(','))
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
