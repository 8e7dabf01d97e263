//! The output channels that a backward pass keeps.

use std::ops::Deref;

use crate::error::{Error, Result};

/// The kept ones of a number of channels (or of columns of a matrix): ascending, unique, at least one. Only
/// [`Self::new`] makes them: kernels whose tasks write to a row each rely on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptChannels {
    indices: Vec<usize>,
    all: usize,
}

impl KeptChannels {
    /// `indices` of `all` channels.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless they are ascending, unique, less than `all`, at least one.
    pub fn new(indices: Vec<usize>, all: usize) -> Result<Self> {
        let ascending = indices.windows(2).all(|pair| pair[0] < pair[1]);
        match indices.last() {
            Some(&last) if ascending && last < all => Ok(Self { indices, all }),
            _ => Err(Error::parameter(
                "kept channels",
                format_args!("{indices:?} of {all}"),
                "ascending, unique, at least one, and less than the number of channels",
            )),
        }
    }

    /// Of how many they are.
    pub fn all(&self) -> usize {
        self.all
    }
}

/// That channels kept of `all` are those of a gradient of `channels`.
///
/// # Errors
/// [`Error::Shape`] if not.
pub fn check_kept_of(all: usize, channels: usize) -> Result<()> {
    match all == channels {
        true => Ok(()),
        false => Err(Error::shape(
            "kept channels",
            "channels to choose from",
            channels,
            all,
        )),
    }
}

/// The indices.
impl Deref for KeptChannels {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.indices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_sets_are_refused() {
        for bad in [vec![], vec![1, 1], vec![2, 1], vec![0, 3]] {
            let err = KeptChannels::new(bad, 3).unwrap_err();
            assert!(err.to_string().contains("kept channels"), "{err}");
        }
        let kept = KeptChannels::new(vec![0, 2], 3).unwrap();
        assert_eq!((&kept[..], kept.all()), (&[0, 2][..], 3));
    }
}
