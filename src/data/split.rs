//! How much of a data set is read, and what training, validation and test get of it.

use super::dataset::ImageDataset;
use super::fit::Fit;
use crate::error::Result;

/// How many images to read. Unless told otherwise: all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// At most as many for training and validation together.
    pub train: Option<usize>,
    /// At most as many for testing.
    pub test: Option<usize>,
}

/// The three parts of a task's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splits {
    /// To train on.
    pub train: ImageDataset,
    /// To choose by: the best epoch, hyperparameters.
    pub validation: ImageDataset,
    /// To report.
    pub test: ImageDataset,
}

/// The share of the training images that is held out for validation.
pub(super) const VALIDATION: f64 = 0.2;

impl Splits {
    /// Holds a fifth of `train` out for validation, drawn by `seed`, as the paper does.
    ///
    /// # Errors
    /// None for any data set.
    pub fn new(train: ImageDataset, test: ImageDataset, seed: u64) -> Result<Self> {
        let (train, validation) = train.split(VALIDATION, seed)?;
        Ok(Self {
            train,
            validation,
            test,
        })
    }

    /// Takes this part of picture files, in all three.
    pub fn with_fit(self, fit: Fit) -> Self {
        Self {
            train: self.train.with_fit(fit),
            validation: self.validation.with_fit(fit),
            test: self.test.with_fit(fit),
        }
    }
}
