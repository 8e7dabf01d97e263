//! Which classes are taken for which.

use std::fmt;

use crate::distributed::Communicator;
use crate::error::Result;

/// How many images of each class (row) were taken for each class (column).
///
/// ```
/// use ssprop::train::ConfusionMatrix;
///
/// let mut found = ConfusionMatrix::new(3);
/// for (label, predicted) in [(0, 0), (0, 2), (1, 1), (2, 2)] {
///     found.add(label, predicted);
/// }
/// assert_eq!(found.count(0, 2), 1);
/// assert_eq!((found.recall(0), found.precision(2)), (Some(0.5), Some(0.5)));
/// assert_eq!(found.to_string(), "1 0 1\n0 1 0\n0 0 1\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    /// (label, prediction)
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// Of no images so far.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    /// That of all ranks together, of which this is one's.
    pub(super) fn of_all(self, communicator: &Communicator) -> Result<Self> {
        let mut counts: Vec<f64> = self.counts.iter().map(|&count| count as f64).collect();
        communicator.sum(&mut counts)?;
        Ok(Self {
            classes: self.classes,
            counts: counts.into_iter().map(|count| count as u64).collect(),
        })
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Takes an image down; one of a class that there is not is left out.
    pub fn add(&mut self, label: usize, predicted: usize) {
        if label < self.classes && predicted < self.classes {
            self.counts[label * self.classes + predicted] += 1;
        }
    }

    /// The images of class `label` that were taken for `predicted`. 0 for a class that there is not.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        match label < self.classes && predicted < self.classes {
            true => self.counts[label * self.classes + predicted],
            false => 0,
        }
    }

    /// The share of a class's images that were known for it: the accuracy on the class. `None` without
    /// images of it.
    pub fn recall(&self, class: usize) -> Option<f64> {
        let all = (0..self.classes).map(|predicted| self.count(class, predicted));
        share(self.count(class, class), all.sum())
    }

    /// The share of the images taken for a class that are of it. `None` if none was.
    pub fn precision(&self, class: usize) -> Option<f64> {
        let all = (0..self.classes).map(|label| self.count(label, class));
        share(self.count(class, class), all.sum())
    }

    /// Different classes that were confused, as (label, predicted, images), the most frequent first and of
    /// equals the first.
    pub fn confusions(&self) -> Vec<(usize, usize, u64)> {
        let pairs = (0..self.classes).flat_map(|a| (0..self.classes).map(move |b| (a, b)));
        let pairs = pairs.filter(|(label, predicted)| label != predicted);
        let mut found: Vec<_> = pairs
            .map(|(label, predicted)| (label, predicted, self.count(label, predicted)))
            .filter(|(_, _, images)| *images > 0)
            .collect();
        found.sort_by_key(|(_, _, images)| std::cmp::Reverse(*images));
        found
    }
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// A line a class.
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in self.counts.chunks(self.classes.max(1)) {
            let row: Vec<String> = row.iter().map(u64::to_string).collect();
            writeln!(f, "{}", row.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_confusions() {
        let mut found = ConfusionMatrix::new(3);
        for (label, predicted, times) in [(0, 0, 3), (0, 1, 1), (1, 0, 2), (1, 1, 2), (5, 0, 9)] {
            for _ in 0..times {
                found.add(label, predicted);
            }
        }
        assert_eq!(
            (found.recall(0), found.precision(0)),
            (Some(0.75), Some(0.6))
        );
        assert_eq!((found.recall(2), found.precision(2)), (None, None));
        assert_eq!(found.confusions(), [(1, 0, 2), (0, 1, 1)]);
        assert_eq!(found.count(5, 0), 0);
    }
}
