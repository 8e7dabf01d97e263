//! The output channels that a backward pass keeps.

use std::cmp::Ordering;

use crate::error::{Error, Result};

/// Larger before smaller, NaN before any number.
pub(super) fn descending(a: f64, b: f64) -> Ordering {
    b.is_nan()
        .cmp(&a.is_nan())
        .then(b.partial_cmp(&a).unwrap_or(Ordering::Equal))
}

/// The indices of the `count` largest, ascending, in O(n); the lower index first among equals.
pub(crate) fn largest(importance: &[f64], count: usize) -> Vec<usize> {
    let n = importance.len();
    if count == 0 || count >= n {
        return (0..count.min(n)).collect();
    }
    let mut order: Vec<usize> = (0..n).collect();
    let rank = |&a: &usize, &b: &usize| descending(importance[a], importance[b]).then(a.cmp(&b));
    order.select_nth_unstable_by(count - 1, rank);
    order.truncate(count);
    order.sort_unstable();
    order
}

/// That these can be kept ones of so many channels.
pub(crate) fn check_kept(indices: &[usize], channels: usize) -> Result<()> {
    let ascending = indices.windows(2).all(|pair| pair[0] < pair[1]);
    match indices.last() {
        Some(&last) if ascending && last < channels => Ok(()),
        _ => Err(Error::parameter(
            "kept channels",
            format_args!("{indices:?} of {channels}"),
            "ascending, unique, at least one, and less than the number of channels",
        )),
    }
}

/// The kept ones of `C_OUT` output channels: ascending, without repetition, at least one.
///
/// ```
/// use ssprop::sparsity::KeptChannels;
///
/// // Importance is mean |dY| over batch, height and width.
/// let kept = KeptChannels::<4>::largest(&[0.5, 2.0, 0.1, 2.0], 2)?;
/// assert_eq!(kept.indices(), [1, 3]);
/// assert!(KeptChannels::<4>::new(vec![1, 4]).is_err());
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptChannels<const C_OUT: usize> {
    indices: Vec<usize>,
}

impl<const C_OUT: usize> KeptChannels<C_OUT> {
    /// The channels at `indices`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless they are ascending, unique, less than `C_OUT`, at least one.
    pub fn new(indices: Vec<usize>) -> Result<Self> {
        check_kept(&indices, C_OUT)?;
        Ok(Self { indices })
    }

    /// Every channel.
    pub fn all() -> Self {
        Self {
            indices: (0..C_OUT).collect(),
        }
    }

    /// The `count` channels of the largest importance, in O(C_OUT). Of equally important ones the
    /// lower index is kept first; NaN counts as larger than any number, so that a diverging
    /// channel is not hidden.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not `C_OUT` importances, [`Error::Parameter`] if `count` is
    /// not in 1..=C_OUT.
    pub fn largest(importance: &[f64], count: usize) -> Result<Self> {
        if importance.len() != C_OUT {
            return Err(Error::shape(
                "select",
                "number of importances",
                C_OUT,
                importance.len(),
            ));
        }
        if count == 0 || count > C_OUT {
            return Err(Error::parameter(
                "number of kept channels",
                count,
                "at least 1 and at most the number of channels",
            ));
        }
        let indices = largest(importance, count);
        Ok(Self { indices })
    }

    /// The channels' indices, ascending.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// How many channels are kept, in 1..=C_OUT.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether every channel is kept.
    pub fn is_all(&self) -> bool {
        self.indices.len() == C_OUT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_index_and_nan_is_kept() {
        let kept = KeptChannels::<5>::largest(&[1.0, 2.0, 2.0, 2.0, 0.0], 2).unwrap();
        assert_eq!(kept.indices(), [1, 2]);
        let kept = KeptChannels::<4>::largest(&[0.0; 4], 3).unwrap();
        assert_eq!(kept.indices(), [0, 1, 2]);
        let kept = KeptChannels::<3>::largest(&[5.0, 1.0, f64::NAN], 1).unwrap();
        assert_eq!(kept.indices(), [2]);
    }

    #[test]
    fn agrees_with_a_full_sort() {
        let importance: Vec<f64> = (0..97).map(|i| ((i * 37) % 23) as f64).collect();
        for count in 1..=97 {
            let kept = KeptChannels::<97>::largest(&importance, count).unwrap();
            let mut order: Vec<usize> = (0..97).collect();
            order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]).then(a.cmp(&b)));
            let mut expected = order[..count].to_vec();
            expected.sort();
            assert_eq!(kept.indices(), expected);
        }
        assert!(KeptChannels::<97>::largest(&importance, 97)
            .unwrap()
            .is_all());
    }

    #[test]
    fn invalid_sets_are_refused() {
        for bad in [vec![], vec![1, 1], vec![2, 1], vec![0, 3]] {
            assert!(KeptChannels::<3>::new(bad).is_err());
        }
        assert!(KeptChannels::<3>::largest(&[1.0, 2.0], 1).is_err());
        assert!(KeptChannels::<3>::largest(&[1.0, 2.0, 3.0], 0).is_err());
        assert!(KeptChannels::<3>::largest(&[1.0, 2.0, 3.0], 4).is_err());
    }
}
