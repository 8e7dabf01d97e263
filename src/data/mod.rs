//! Data sets of labelled images: reading them, splitting them, and their batches.
//!
//! [`load`] reads a data set from a folder or an archive, [`bundled`] the small one that comes with
//! the crate's sources. Both give `(train, test)`, two [`ImageDataset`]s in memory.
//! [`imagenet`](fn@imagenet), [`celeba`](fn@celeba) and [`folder`](fn@folder) find pictures, which are
//! decoded as they are asked for. A [`BatchLoader`] makes normalised batches of either, in the background and with [`Augmentation`]
//! if wanted, and a [`Batch`] makes tensors.
//!
//! A [`Task`] is one of the paper's classification tasks: it knows its images' size, classes and
//! normalisation, says how to obtain its files, and reads them for training, validation and test.
//!
//! The readers take files for damaged until shown otherwise: none makes them panic, memory grows
//! with the bytes that are there and not with what a header claims, and a [`DataError`] names the
//! file, its archive and the byte.

mod archive;
mod augment;
mod batch;
mod batches;
mod bundled;
mod celeba;
mod cifar;
mod classes;
mod dataset;
mod fit;
mod folder;
mod idx;
mod imagenet;
mod input_spec;
mod loader;
mod names;
mod normalization;
mod picture;
mod plan;
mod reader;
mod recycled;
mod source;
mod split;
mod task;
#[cfg(test)]
mod tests;
mod tree;
mod zip_entry;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

pub use crate::error::{DataError, FileName};
pub use augment::Augmentation;
pub use batch::Batch;
pub use batches::Batches;
pub use bundled::bundled;
pub use celeba::celeba;
pub use cifar::{cifar10, cifar100, cifar100_coarse};
pub use dataset::{DamagedPicture, ImageDataset, ImageShape};
pub use fit::Fit;
pub use folder::{folder, folder_classes};
pub use idx::{encode_idx, idx, idx_files};
pub use imagenet::imagenet;
pub use input_spec::InputSpec;
pub use loader::BatchLoader;
pub use normalization::Normalization;
pub use split::{Limits, Splits};
pub use task::{Task, TaskInfo};

use crate::error::{Error, Result};

/// What tests of damaged inputs reach into. No part of the API.
#[doc(hidden)]
pub mod internals {
    pub use super::cifar::few_records;
}

/// A data set that [`load`] can read.
///
/// Each has a name, for [`FromStr`] and [`Display`](fmt::Display), so that it can be an argument of a
/// program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatasetKind {
    /// `mnist`: see [`mnist`](fn@mnist).
    Mnist,
    /// `fashion-mnist`: see [`fashion_mnist`].
    FashionMnist,
    /// `emnist-letters`: see [`emnist_letters`].
    EmnistLetters,
    /// `cifar10`: see [`cifar10`](fn@cifar10).
    Cifar10,
    /// `cifar100`: see [`cifar100`](fn@cifar100).
    Cifar100,
    /// `cifar100-coarse`: see [`cifar100_coarse`].
    Cifar100Coarse,
}

impl DatasetKind {
    const ALL: [Self; 6] = [
        Self::Mnist,
        Self::FashionMnist,
        Self::EmnistLetters,
        Self::Cifar10,
        Self::Cifar100,
        Self::Cifar100Coarse,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::EmnistLetters => "emnist-letters",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Cifar100Coarse => "cifar100-coarse",
        }
    }
}

impl fmt::Display for DatasetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DatasetKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            Error::parameter(
                "data set",
                name,
                "mnist, fashion-mnist, emnist-letters, cifar10, cifar100 or cifar100-coarse",
            )
        })
    }
}

/// Reads the data set `kind` at `path`, a folder or an archive: `(train, test)`.
///
/// ```no_run
/// use ssprop::data::{self, DatasetKind};
///
/// let (train, test) = data::load("cifar-10-binary.tar.gz", DatasetKind::Cifar10)?;
/// assert_eq!((train.len(), test.len()), (50_000, 10_000));
/// # Ok::<(), ssprop::Error>(())
/// ```
///
/// # Errors
/// [`Error::Data`] if a file is missing, damaged or not of the kind's format.
pub fn load(path: impl AsRef<Path>, kind: DatasetKind) -> Result<(ImageDataset, ImageDataset)> {
    match kind {
        DatasetKind::Mnist => mnist(path),
        DatasetKind::FashionMnist => fashion_mnist(path),
        DatasetKind::EmnistLetters => emnist_letters(path),
        DatasetKind::Cifar10 => cifar10(path),
        DatasetKind::Cifar100 => cifar100(path),
        DatasetKind::Cifar100Coarse => cifar100_coarse(path),
    }
}

/// Reads MNIST, or another data set of ten digits in its format, by [`idx()`]: `(train, test)`.
///
/// Source: Y. LeCun, C. Cortes, C. J. C. Burges, *The MNIST database of handwritten digits*.
///
/// # Errors
/// As for [`idx()`].
pub fn mnist(path: impl AsRef<Path>) -> Result<(ImageDataset, ImageDataset)> {
    named_idx(path.as_ref(), &names::MNIST)
}

/// Reads Fashion-MNIST by [`idx()`]: `(train, test)`.
///
/// Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747.
///
/// # Errors
/// As for [`idx()`].
pub fn fashion_mnist(path: impl AsRef<Path>) -> Result<(ImageDataset, ImageDataset)> {
    named_idx(path.as_ref(), &names::FASHION_MNIST)
}

/// Reads the letters of EMNIST by [`idx()`]: `(train, test)`, 26 classes. The images are as they lie
/// in the files, which is transposed.
///
/// Source: G. Cohen, S. Afshar, J. Tapson, A. van Schaik, arXiv 1702.05373.
///
/// # Errors
/// As for [`idx()`].
pub fn emnist_letters(path: impl AsRef<Path>) -> Result<(ImageDataset, ImageDataset)> {
    named_idx(path.as_ref(), &names::LETTERS)
}

fn named_idx(path: &Path, names: &[&'static str]) -> Result<(ImageDataset, ImageDataset)> {
    let (train, test) = idx(path, names.len())?;
    Ok((
        train.with_class_names(names.iter().copied())?,
        test.with_class_names(names.iter().copied())?,
    ))
}
