//! Folders of pictures, one for each class.

use std::collections::HashSet;

use super::picture::by_name;
use super::tree::{join, Tree};
use crate::error::{DataError, DataResult};

/// Labels are 16-bit numbers.
const MOST: usize = 1 << 16;
/// Deeper folders in a class's folder are taken for a mistake.
const DEPTH: usize = 4;

/// The classes: the names of the folders at a place, in alphabetical order.
///
/// # Errors
/// If there are none, or more than labels can tell apart.
pub(super) fn classes(tree: &Tree, at: &str) -> DataResult<Vec<String>> {
    let children = tree.list(at)?;
    let folders = children.iter().filter(|child| child.is_folder);
    let classes: Vec<String> = folders.map(|child| child.name.clone()).collect();
    if classes.len() > MOST {
        return Err(DataError::Layout {
            path: tree.show(at),
            expected: format!("a folder for each class, of which there can be {MOST}"),
            found: format!("{} folders", classes.len()),
        });
    }
    if !classes.is_empty() {
        return Ok(classes);
    }
    let pictures = children.iter().find(|child| by_name(&child.name).is_some());
    Err(match pictures {
        Some(picture) => DataError::Layout {
            path: tree.show(at),
            expected: "a folder for each class".into(),
            found: format!("pictures directly, as {}", picture.name),
        },
        None => DataError::Missing {
            path: tree.show(at),
            expected: "class's folder".into(),
        },
    })
}

/// The pictures at a place by class, with their labels: all, or at most `limit` of which the classes
/// have as many each as can be.
///
/// # Errors
/// If a class has no folder or no picture, if there is a folder that is no class, and for a picture of
/// a format that is not read.
pub(super) fn pictures(
    tree: &Tree,
    at: &str,
    classes: &[String],
    limit: Option<usize>,
) -> DataResult<(Vec<String>, Vec<u16>)> {
    check_folders(tree, at, classes)?;
    // (rank in the class, label, place): sorted, the classes take turns.
    let mut found: Vec<(usize, u16, String)> = Vec::new();
    for (label, class) in (0..=u16::MAX).zip(classes) {
        let folder = join(at, class);
        let before = found.len();
        collect(tree, &folder, DEPTH, &mut |place| {
            found.push((found.len() - before, label, place));
        })?;
        if found.len() == before {
            return Err(DataError::Missing {
                path: tree.show(&folder),
                expected: "that is a picture (JPEG or PNG)".into(),
            });
        }
    }
    if let Some(limit) = limit {
        found.sort_unstable();
        found.truncate(limit);
    }
    Ok(found
        .into_iter()
        .map(|(_, label, place)| (place, label))
        .unzip())
}

/// That the folders are those of the classes.
fn check_folders(tree: &Tree, at: &str, classes: &[String]) -> DataResult<()> {
    let children = tree.list(at)?;
    let folders = children.iter().filter(|child| child.is_folder);
    let folders: Vec<&str> = folders.map(|child| &*child.name).collect();
    let pictures = children.iter().find(|child| by_name(&child.name).is_some());
    if let (true, Some(picture)) = (folders.is_empty(), pictures) {
        return Err(DataError::Layout {
            path: tree.show(at),
            expected: format!(
                "a folder for each of the {} classes ({}, ...), as the labels come from them",
                classes.len(),
                classes.first().map_or("", String::as_str),
            ),
            found: format!("pictures directly, as {}", picture.name),
        });
    }
    let there: HashSet<&str> = folders.iter().copied().collect();
    if let Some(class) = classes.iter().find(|class| !there.contains(&***class)) {
        return Err(DataError::Missing {
            path: tree.show(at),
            expected: format!("or folder {class}, which is a class"),
        });
    }
    let known: HashSet<&str> = classes.iter().map(String::as_str).collect();
    match folders.iter().find(|folder| !known.contains(*folder)) {
        Some(folder) => Err(DataError::Layout {
            path: tree.show(&join(at, folder)),
            expected: "folders of classes that there are for training only".into(),
            found: "another one".into(),
        }),
        None => Ok(()),
    }
}

/// The pictures in a folder and in those below it.
fn collect(tree: &Tree, at: &str, depth: usize, found: &mut dyn FnMut(String)) -> DataResult<()> {
    for child in tree.list(at)? {
        let place = join(at, &child.name);
        if child.is_folder {
            if depth == 0 {
                return Err(DataError::Layout {
                    path: tree.show(&place),
                    expected: format!("at most {DEPTH} folders below a class's"),
                    found: "one more".into(),
                });
            }
            collect(tree, &place, depth - 1, found)?;
            continue;
        }
        match by_name(&child.name) {
            Some(Ok(())) => found(place),
            Some(Err(format)) => {
                return Err(DataError::Layout {
                    path: tree.show(&place),
                    expected: "pictures that are JPEG or PNG".into(),
                    found: format!("one of the format {format}, which is not read"),
                })
            }
            None => (),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_classes_than_labels_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.zip");
        let classes_of = |count: usize| {
            let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
            let options = zip::write::SimpleFileOptions::default();
            for class in 0..count {
                zip.add_directory(format!("{class:05}"), options).unwrap();
            }
            zip.finish().unwrap();
            let tree = Tree::open(&path).unwrap();
            classes(&tree, "").map(|classes| classes.len())
        };
        assert_eq!(classes_of(MOST).unwrap(), 65_536);
        let e = classes_of(MOST + 1).unwrap_err().to_string();
        assert!(e.contains("65537 folders") && e.contains("65536"), "{e}");
    }
}
