//! Where a device has the importances of channels, and those that a selection keeps.
//!
//! A GPU chooses where its memory is: the host knows how many are kept, not which, and waits for nothing.

use std::fmt::Debug;

use dfdx::tensor::Cpu;

use crate::error::Result;
use crate::kernels::args::KeptChannels;

/// A device that ranks channels (or columns of a matrix).
pub trait Ranking: Sized {
    /// An importance for each channel; or any numbers that the device computes and the host may ask for.
    type Importance: Debug;
    /// The same, to write.
    type ImportanceMut<'a>;
    /// The indices of kept channels, ascending.
    type Kept: Debug;
    /// The same, as kernels see them.
    type KeptView<'a>: Copy;

    /// Room for the importances of `count` channels.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out, here and below.
    fn take_importance(&self, count: usize) -> Result<Self::Importance>;

    /// The importances, to write.
    fn importance_mut(importance: &mut Self::Importance) -> Self::ImportanceMut<'_>;

    /// The importances on the host, which waits for them.
    ///
    /// # Errors
    /// Those of the device.
    fn importance_to_host(importance: Self::Importance) -> Result<Vec<f64>>;

    /// Brings indices that the host has chosen of `all` to the device.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) unless they are ascending, unique, less than `all`, at least one.
    fn keep(&self, indices: Vec<usize>, all: usize) -> Result<Self::Kept>;

    /// The kept channels, for kernels.
    fn kept(kept: &Self::Kept) -> Self::KeptView<'_>;

    /// The kept channels, if the host has chosen them.
    fn kept_on_host(kept: &Self::Kept) -> Option<&[usize]>;

    /// How many they are, and of how many.
    fn kept_of(kept: &Self::Kept) -> [usize; 2];
}

impl Ranking for Cpu {
    type Importance = Vec<f64>;
    type ImportanceMut<'a> = &'a mut [f64];
    type Kept = KeptChannels;
    type KeptView<'a> = &'a KeptChannels;

    fn take_importance(&self, count: usize) -> Result<Vec<f64>> {
        Ok(vec![0.0; count])
    }

    fn importance_mut(importance: &mut Vec<f64>) -> &mut [f64] {
        importance
    }

    fn importance_to_host(importance: Vec<f64>) -> Result<Vec<f64>> {
        Ok(importance)
    }

    fn keep(&self, indices: Vec<usize>, all: usize) -> Result<KeptChannels> {
        Ok(KeptChannels::new(indices, all)?)
    }

    fn kept(kept: &KeptChannels) -> &KeptChannels {
        kept
    }

    fn kept_on_host(kept: &KeptChannels) -> Option<&[usize]> {
        Some(kept)
    }

    fn kept_of(kept: &KeptChannels) -> [usize; 2] {
        [kept.len(), kept.all()]
    }
}
