//! Images mixed with others of their batch.

use rand::rngs::StdRng;
use rand::SeedableRng;
use rand_distr::{Beta, Distribution};

use super::objective::Place;
use crate::error::{Error, Result};

/// Mixup (Zhang et al., [arXiv 1710.09412](https://arxiv.org/abs/1710.09412)): each image of a batch and its target
/// become w times themselves and 1 - w times those of the image before (of the first: the last), w ~
/// Beta(alpha, alpha), one a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixup {
    distribution: Beta<f64>,
    seed: u64,
}

impl Mixup {
    /// # Errors
    /// [`Error::Parameter`] unless `alpha` is finite and greater than 0.
    pub(super) fn new(alpha: f64, seed: u64) -> Result<Self> {
        let range = || Error::parameter("mixup", alpha, "finite and greater than 0");
        if !alpha.is_finite() {
            return Err(range());
        }
        let distribution = Beta::new(alpha, alpha).map_err(|_| range())?;
        Ok(Self { distribution, seed })
    }

    /// The weight of an image itself, in the batch of that place: it decides the weight, and the seed.
    pub(super) fn weight(&self, place: Place) -> f64 {
        let mut bytes = [0; 32];
        let parts = [self.seed, place.epoch, place.batch as u64, u64::MAX];
        for (to, part) in bytes.chunks_mut(8).zip(parts) {
            to.copy_from_slice(&part.to_le_bytes());
        }
        let weight = self.distribution.sample(&mut StdRng::from_seed(bytes));
        // Alphas near 0 make a quotient of zeros.
        if weight.is_nan() {
            1.0
        } else {
            weight
        }
    }
}

/// Rows of `len` values, each mixed with the one before.
pub(super) fn mixed(values: &[f32], len: usize, weight: f64) -> Vec<f32> {
    let (own, other) = (weight as f32, (1.0 - weight) as f32);
    let len = len.max(1);
    let before = values.len() - len.min(values.len());
    let others = values[before..].iter().chain(&values[..before]);
    let pairs = values.iter().zip(others);
    pairs.map(|(a, b)| own * a + other * b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::targets::Targets;

    const LOSS: f32 = 1.0929756;
    const GRADIENT: [f32; 9] = [
        0.0584301, -0.0869625, 0.0285323, 0.0061468, 0.0686122, -0.0747590, 0.0002032, -0.1225917,
        0.1223885,
    ];

    #[test]
    fn rows_are_mixed_with_the_row_before() {
        let values = [1.0, 2.0, 10.0, 20.0, 100.0, 200.0];
        let expected = [25.75, 51.5, 7.75, 15.5, 77.5, 155.0];
        assert_eq!(mixed(&values, 2, 0.75), expected);
        assert_eq!(mixed(&values[..2], 2, 0.75), [1.0, 2.0]);
        assert!(mixed(&[], 2, 0.75).is_empty());
    }

    #[test]
    fn weights_are_of_a_beta_distribution_and_follow_from_the_place() {
        let at = |mixup: &Mixup, batch| mixup.weight(Place { epoch: 1, batch });
        for alpha in [0.2, 1.0, 4.0] {
            let mixup = Mixup::new(alpha, 7).unwrap();
            let weights: Vec<f64> = (0..4000).map(|batch| at(&mixup, batch)).collect();
            let mean = weights.iter().sum::<f64>() / 4000.0;
            let squares = weights.iter().map(|w| (w - 0.5).powi(2));
            let variance = squares.sum::<f64>() / 4000.0;
            // 1 / (4 (2 alpha + 1)).
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!((mean - 0.5).abs() < 0.03, "{alpha}: {mean}");
            assert!(
                (variance / expected - 1.0).abs() < 0.1,
                "{alpha}: {variance}"
            );
            assert_eq!(at(&mixup, 3), weights[3]);
            assert_ne!(at(&Mixup::new(alpha, 8).unwrap(), 3), weights[3]);
        }
        let near_zero = Mixup::new(1e-300, 7).unwrap();
        assert!((0..100).all(|batch| (0.0..=1.0).contains(&at(&near_zero, batch))));
    }

    /// lam * cross_entropy(x, labels) + (1 - lam) * cross_entropy(x, labels.roll(1)) of PyTorch 2.15.
    #[test]
    fn the_loss_is_the_mix_of_both_labels() {
        use dfdx::prelude::*;
        let dev = Cpu::default();
        let x = dev.tensor([[0.5f32, -1.0, 2.0], [1.5, 0.25, -0.75], [0.1, 0.2, 0.3]]);
        let targets = Targets {
            smoothing: 0.0,
            weights: None,
        };
        let targets = mixed(&targets.of(&[2, 0, 1], 3).unwrap(), 3, 0.7);
        let targets = dev.tensor_from_vec(targets, (Const::<3>, Const::<3>));
        let loss = crate::ops::cross_entropy::try_cross_entropy(x.leaky_trace(), targets).unwrap();
        assert!((loss.array() - LOSS).abs() < 1e-6, "{}", loss.array());
        let gradient = loss.backward().get(&x).as_vec();
        for (found, expected) in gradient.iter().zip(GRADIENT) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn bad_alphas_are_named() {
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let err = Mixup::new(alpha, 0).unwrap_err().to_string();
            assert_eq!(
                err,
                format!("mixup = {alpha}: must be finite and greater than 0")
            );
        }
    }
}
