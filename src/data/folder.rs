//! Any folder of pictures as a classification task.

use std::path::Path;

use super::classes::classes;
use super::dataset::ImageDataset;
use super::imagenet::read;
use super::split::{Limits, Splits, VALIDATION};
use super::tree::{join, Tree};
use crate::error::Result;

/// What the folders of the parts can be called.
const VALIDATION_NAMES: [&str; 3] = ["val", "valid", "validation"];
const TEST_NAME: &str = "test";
/// Decides the test images where there is no folder of them, whatever the seed of a run.
const TEST_SEED: u64 = 0;

/// Pictures in a folder for each class: of each the square in its middle, resized to 3 x `side` x
/// `side` and [decoded when it is asked for](ImageDataset::is_lazy).
///
/// `path` is a folder or a zip. It has the classes' folders, or `train` that has them, perhaps with `val`
/// (or `valid`, `validation`) and `test`, which have folders of the same names. Without `val` a
/// fifth of the images for training, drawn by `seed`, is for validation. Without `test` the images
/// of `val` are for test too, and without either of them another fifth, the same for each seed.
/// The labels are the places of the classes' folders in alphabetical order. With a limit the classes are
/// as balanced as they can be.
///
/// # Errors
/// As [`imagenet`](super::imagenet()), and [`Error::Parameter`](crate::Error::Parameter) if `side`
/// is 0.
pub fn folder(path: impl AsRef<Path>, side: usize, limits: Limits, seed: u64) -> Result<Splits> {
    let (tree, root) = open(path.as_ref())?;
    let train = join(&root, "train");
    let has_parts = tree.is_folder(&train);
    let classes = classes(&tree, if has_parts { &train } else { &root })?;
    let part = |at: &str, limit| read(&tree, at, &classes, limit, side, 1.0);
    if !has_parts {
        let all = part(&root, None)?;
        let (train, test) = all.split(VALIDATION, TEST_SEED)?;
        return Splits::new(
            limited(train, limits.train),
            limited(test, limits.test),
            seed,
        );
    }
    let find = |name: &&str| tree.is_folder(&join(&root, name));
    let test = Some(TEST_NAME).filter(find).map(|name| join(&root, name));
    let Some(validation) = VALIDATION_NAMES.iter().find(|name| find(name)) else {
        return match test {
            Some(test) => Splits::new(part(&train, limits.train)?, part(&test, limits.test)?, seed),
            None => {
                let (train, test) = part(&train, None)?.split(VALIDATION, TEST_SEED)?;
                Splits::new(
                    limited(train, limits.train),
                    limited(test, limits.test),
                    seed,
                )
            }
        };
    };
    let held_out = limits
        .train
        .map(|n| (n as f64 * VALIDATION).round() as usize);
    let validation = join(&root, validation);
    let test = test.unwrap_or_else(|| validation.clone());
    Ok(Splits {
        train: part(
            &train,
            limits.train.map(|n| n - held_out.unwrap_or(0).min(n)),
        )?,
        validation: part(&validation, held_out)?,
        test: part(&test, limits.test)?,
    })
}

/// The classes that [`folder`] finds, without reading the pictures.
///
/// # Errors
/// If there are none, or `path` cannot be read.
pub fn folder_classes(path: impl AsRef<Path>) -> Result<Vec<String>> {
    let (tree, root) = open(path.as_ref())?;
    let train = join(&root, "train");
    let at = if tree.is_folder(&train) {
        &train
    } else {
        &root
    };
    Ok(classes(&tree, at)?)
}

fn open(path: &Path) -> Result<(Tree, String)> {
    let tree = Tree::open(path)?;
    // A zip may have one folder around everything.
    let root = match (&tree, tree.list("")?.as_slice()) {
        (Tree::Zip(_), [only]) if only.is_folder && only.name != "train" => {
            let inside = tree.list(&only.name)?;
            let is_class = !inside.iter().any(|child| child.is_folder);
            if is_class {
                String::new()
            } else {
                only.name.clone()
            }
        }
        _ => String::new(),
    };
    Ok((tree, root))
}

fn limited(data: ImageDataset, limit: Option<usize>) -> ImageDataset {
    match limit {
        Some(limit) => data.take_balanced(limit),
        None => data,
    }
}
