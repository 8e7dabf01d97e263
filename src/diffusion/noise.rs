//! Reproducible noise: each draw has a generator of its own.

use rand::rngs::StdRng;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

/// What noise is drawn for. The same seed gives each its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Draw {
    /// A training step: the epoch, the batch in it.
    Training { epoch: u64, batch: u64 },
    /// Which images of a training step lose their class: the epoch, the batch in it.
    Classes { epoch: u64, batch: u64 },
    /// An image of an evaluation: its place in the data set.
    Evaluation { image: u64 },
    /// A sample: its number.
    Sample { image: u64 },
}

impl Draw {
    /// The generator of this draw, which depends on the seed and nothing else.
    pub(super) fn rng(self, seed: u64) -> StdRng {
        let (purpose, a, b) = match self {
            Self::Training { epoch, batch } => (0u64, epoch, batch),
            Self::Evaluation { image } => (1, image, 0),
            Self::Sample { image } => (2, image, 0),
            Self::Classes { epoch, batch } => (3, epoch, batch),
        };
        let mut key = [0; 32];
        for (to, part) in key.chunks_mut(8).zip([seed, purpose, a, b]) {
            to.copy_from_slice(&part.to_le_bytes());
        }
        StdRng::from_seed(key)
    }
}

/// Fills with standard normal values.
pub(super) fn fill_normal(rng: &mut StdRng, values: &mut [f32]) {
    for value in values {
        *value = StandardNormal.sample(rng);
    }
}
