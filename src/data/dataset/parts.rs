//! Parts of a data set, in any order, which share its pixels.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::SeedableRng;

use super::{ImageDataset, Labels};
use crate::error::{Error, Result};

impl ImageDataset {
    /// The images at `indices`, in that order; an index can come more than once.
    ///
    /// # Errors
    /// [`Error::Parameter`] if an index is not below [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        if let Some(&bad) = indices.iter().find(|&&i| i >= self.len()) {
            return Err(Error::parameter(
                "index of an image",
                format_args!("{bad} (of {} images)", self.len()),
                "below the number of images",
            ));
        }
        Ok(self.select(indices))
    }

    /// The first `limit` images, or all if there are fewer.
    pub fn take(&self, limit: usize) -> Self {
        let n = limit.min(self.len());
        let labels = match &self.labels {
            Labels::Class(labels) => Labels::Class(labels[..n].into()),
            Labels::Attributes(all) => Labels::Attributes(all[..n * self.classes].into()),
        };
        Self {
            order: self.order.as_ref().map(|order| order[..n].into()),
            labels,
            count: n,
            ..self.clone()
        }
    }

    /// `limit` images spread evenly over the classes, or all if there are fewer: the first ones of
    /// each class, in their order.
    ///
    /// The classes' counts differ by at most one (the lower labels have more), unless a class has
    /// too few images: the others then make up for it. Of a multi-label data set they are the
    /// [first ones](Self::take).
    pub fn take_balanced(&self, limit: usize) -> Self {
        if self.is_multi_label() {
            return self.take(limit);
        }
        let mut seen = vec![0usize; self.classes];
        let mut order: Vec<(usize, u16, usize)> = Vec::with_capacity(self.len());
        for (index, &label) in self.labels().iter().enumerate() {
            let rank = &mut seen[usize::from(label)];
            order.push((*rank, label, index));
            *rank += 1;
        }
        order.sort_unstable();
        let mut indices: Vec<usize> = order.iter().take(limit).map(|o| o.2).collect();
        indices.sort_unstable();
        self.select(&indices)
    }

    /// All images in an order that `seed` decides.
    pub fn shuffled(&self, seed: u64) -> Self {
        self.select(&self.permutation(seed))
    }

    /// Two data sets, for training and for validation: the second has round(`fraction` * len)
    /// images, drawn by `seed`. Each image is in one of them.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `fraction` is not in 0..=1.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::parameter("fraction", fraction, "in 0..=1"));
        }
        let validation = ((fraction * self.len() as f64).round() as usize).min(self.len());
        let order = self.permutation(seed);
        let (second, first) = order.split_at(validation);
        Ok((self.select(first), self.select(second)))
    }

    fn permutation(&self, seed: u64) -> Vec<usize> {
        let order = permutation(self.len(), seed, 0).into_iter();
        order.map(|place| place as usize).collect()
    }

    /// The images at `indices`, which are all below `len`.
    pub(super) fn select(&self, indices: &[usize]) -> Self {
        let labels = match &self.labels {
            Labels::Class(labels) => Labels::Class(indices.iter().map(|&i| labels[i]).collect()),
            Labels::Attributes(all) => {
                let attributes = indices
                    .iter()
                    .map(|&i| &all[i * self.classes..][..self.classes]);
                Labels::Attributes(attributes.flatten().copied().collect())
            }
        };
        let place = |&i: &usize| match &self.order {
            Some(order) => order[i],
            // Below the number of images, which fits.
            None => i as u32,
        };
        Self {
            order: Some(indices.iter().map(place).collect()),
            labels,
            count: indices.len(),
            ..self.clone()
        }
    }
}

/// The order of `len` images in an epoch: a Fisher-Yates shuffle by a generator whose key is
/// (`seed`, `epoch`), so that each epoch's order can be had without those before it.
pub(in crate::data) fn permutation(len: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    // A data set has less than 2^32 images.
    let mut order: Vec<u32> = (0..len as u32).collect();
    order.shuffle(&mut StdRng::from_seed(key));
    order
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{ids, numbered};
    use super::super::ImageShape;
    use super::*;

    #[test]
    fn attributes_follow_their_images() {
        let shape = ImageShape::new(1, 1, 2);
        let images: Vec<u8> = (0..8).collect();
        // Image i has attribute 0 if i is odd and attribute 1 if i is at least 2.
        let attributes: Vec<bool> = (0..4).flat_map(|i| [i % 2 == 1, i >= 2]).collect();
        let data = ImageDataset::multi_label(images, attributes.clone(), shape, 2).unwrap();
        assert!(data.is_multi_label() && data.labels().is_empty());
        assert_eq!((data.label(0), data.image_attributes(4)), (None, None));
        let of = |data: &ImageDataset| -> Vec<(u8, Vec<bool>)> {
            let ids = ids(data).into_iter().enumerate();
            ids.map(|(i, id)| (id, data.image_attributes(i).unwrap().to_vec()))
                .collect()
        };
        for (id, found) in of(&data.shuffled(3)) {
            assert_eq!(found, [id % 2 == 1, id >= 2]);
        }
        let (first, second) = data.split(0.25, 1).unwrap();
        assert_eq!((first.len(), second.len()), (3, 1));
        for (id, found) in of(&first).into_iter().chain(of(&second)) {
            assert_eq!(found, [id % 2 == 1, id >= 2]);
        }
        assert_eq!(data.take(3).class_counts(), [1, 1]);
        assert_eq!(data.take_balanced(3), data.take(3));

        let bad = |images: usize, attributes: usize, classes| {
            let attributes = vec![false; attributes];
            ImageDataset::multi_label(vec![0; images], attributes, shape, classes).is_err()
        };
        assert!(bad(7, 8, 2) && bad(8, 7, 2) && bad(8, 8, 3) && bad(8, 0, 0));
        assert!(!bad(8, 4, 1) && !bad(0, 0, 1));
    }

    #[test]
    fn subset_keeps_the_order_asked_for() {
        let data = numbered(&[0, 1, 2, 0], 3);
        let some = data.subset(&[3, 1, 3]).unwrap();
        assert_eq!(ids(&some), [3, 1, 3]);
        assert_eq!(some.labels(), [0, 1, 0]);
        let m = data.subset(&[0, 4]).unwrap_err().to_string();
        assert!(m.contains("4 (of 4 images)"), "{m}");
    }

    #[test]
    fn parts_share_the_pixels() {
        let data = numbered(&[0; 100], 1);
        let (train, validation) = data.split(0.2, 7).unwrap();
        let some = train.shuffled(1).take(9).subset(&[4, 2]).unwrap();
        for part in [&train, &validation, &some, &data.take_balanced(3)] {
            assert!(Arc::ptr_eq(&part.store, &data.store));
        }
        assert_eq!(ids(&some)[0], ids(&train.shuffled(1))[4]);
    }

    #[test]
    fn take_is_the_first_images() {
        let data = numbered(&[0, 1, 2, 0], 3);
        assert_eq!(ids(&data.take(2)), [0, 1]);
        assert_eq!(data.take(9), data);
        assert!(data.take(0).is_empty());
    }

    #[test]
    fn balanced_take_spreads_over_the_classes() {
        let data = numbered(&[0, 0, 0, 0, 1, 2, 2, 2], 3);
        assert_eq!(ids(&data.take_balanced(3)), [0, 4, 5]);
        // The fourth goes to the lowest label.
        assert_eq!(ids(&data.take_balanced(4)), [0, 1, 4, 5]);
        // Class 1 runs out.
        assert_eq!(data.take_balanced(7).class_counts(), [3, 1, 3]);
        assert_eq!(data.take_balanced(100), data);
    }

    #[test]
    fn split_is_a_partition_that_the_seed_decides() {
        let data = numbered(&[0; 100], 1);
        let (train, validation) = data.split(0.2, 7).unwrap();
        assert_eq!((train.len(), validation.len()), (80, 20));
        let mut all = ids(&train);
        all.extend(ids(&validation));
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<u8>>());
        assert_eq!(data.split(0.2, 7).unwrap(), (train, validation.clone()));
        assert_ne!(data.split(0.2, 8).unwrap().1, validation);
        assert_eq!(data.split(1.0, 7).unwrap().0.len(), 0);
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(data.split(bad, 0).is_err());
        }
    }
}
