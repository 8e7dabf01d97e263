//! How the kept channels are chosen.

use rand::seq::index;

use super::largest::largest;
use super::{AdaptiveKeep, Draw, DropRate};
use crate::error::{Error, Result};

/// How a sparse backward pass chooses what it keeps: of the channels, or of whatever the
/// [`Masking`](super::Masking) is over.
///
/// ```
/// use ssprop::sparsity::{Draw, DropRate, Selection};
///
/// let importance = || Ok(vec![0.5, 2.0, 0.1, 3.0]);
/// let half = DropRate::new(0.5)?;
/// let kept = Selection::TopK.choose(4, half, Draw::default(), importance)?;
/// assert_eq!(kept.unwrap(), [1, 3]);
///
/// let random = Selection::Random { seed: 7, rescale: false };
/// let kept = |iteration| random.choose(4, half, Draw::new("conv1", iteration), importance);
/// assert_eq!(kept(0)?.unwrap().len(), 2);
/// assert_eq!(kept(0)?, kept(0)?);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Selection {
    /// The most important ones, as many as the drop rate leaves: the paper's choice.
    #[default]
    TopK,
    /// As many as the drop rate leaves, each set of that many equally likely (the paper's
    /// sensitivity analysis).
    ///
    /// The layer's path and the iteration decide the set beside the seed: tell the layers each
    /// iteration's number with
    /// [`set_iteration`](crate::nn::VisitLayers::set_iteration), or they draw the same set each
    /// time. ([`Trainer`](crate::train::Trainer) does so itself.)
    Random {
        /// The run's seed.
        seed: u64,
        /// Whether what is kept is multiplied by n / k, where k of n are kept, which makes the
        /// expectation of dW and db the dense gradient (and that of dX, given dY).
        rescale: bool,
    },
    /// As many as the drop rate leaves, the next ones at each iteration: each channel is kept once in
    /// n / k iterations, where k of n are kept. (Beyond the paper.) The iterations have to be told as for
    /// [`Random`](Self::Random).
    Rotation {
        /// Whether what is kept is multiplied by n / k, as for [`Random`](Self::Random).
        rescale: bool,
    },
    /// The most important ones, as many as a rule says that looks at the importances. The drop rate
    /// plays no part.
    Adaptive(AdaptiveKeep),
}

impl Selection {
    /// The indices to keep of `n`, ascending; `None` for all. `importance` is asked for `n`
    /// importances if the choice depends on them.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not `n` importances, and the error of `importance`.
    pub fn choose(
        &self,
        n: usize,
        drop_rate: DropRate,
        draw: Draw,
        importance: impl FnOnce() -> Result<Vec<f64>>,
    ) -> Result<Option<Vec<usize>>> {
        let ranked = || {
            let importance = importance()?;
            match importance.len() == n {
                true => Ok(importance),
                false => Err(Error::shape(
                    "select",
                    "number of importances",
                    n,
                    importance.len(),
                )),
            }
        };
        let planned = drop_rate.kept_of(n);
        match *self {
            Self::TopK | Self::Random { .. } | Self::Rotation { .. } if planned >= n => Ok(None),
            Self::TopK => Ok(Some(largest(&ranked()?, planned))),
            Self::Random { seed, .. } => {
                let mut kept = index::sample(&mut draw.rng(seed), n, planned).into_vec();
                kept.sort_unstable();
                Ok(Some(kept))
            }
            Self::Rotation { .. } => {
                let first = draw.turn(n, planned);
                let mut kept: Vec<usize> = (0..planned).map(|i| (first + i) % n).collect();
                kept.sort_unstable();
                Ok(Some(kept))
            }
            Self::Adaptive(rule) => {
                let importance = ranked()?;
                let count = rule.kept_of(&importance);
                Ok((count < n).then(|| largest(&importance, count)))
            }
        }
    }

    /// How many of `n` are kept, if that is known beforehand, and their importances choose them: what a
    /// device can do by itself.
    pub(crate) fn largest_of(&self, n: usize, drop_rate: DropRate) -> Option<usize> {
        let count = drop_rate.kept_of(n);
        (*self == Self::TopK && count < n).then_some(count)
    }

    /// What the kept part of a gradient is multiplied by when `kept` of `n` are kept: n / kept for
    /// a random selection or a rotation that rescales, 1 otherwise.
    pub fn scale(&self, kept: usize, n: usize) -> f64 {
        match self {
            Self::Random { rescale: true, .. } | Self::Rotation { rescale: true } => {
                n as f64 / kept.max(1) as f64
            }
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: Selection = Selection::Random {
        seed: 3,
        rescale: true,
    };

    fn drawn(selection: Selection, n: usize, rate: f64, draw: Draw) -> Vec<usize> {
        let rate = DropRate::new(rate).unwrap();
        let unneeded = || panic!("a random choice needs no importance");
        selection.choose(n, rate, draw, unneeded).unwrap().unwrap()
    }

    #[test]
    fn random_sets_are_of_the_planned_size_and_reach_every_channel_equally() {
        const N: usize = 20;
        const DRAWS: u64 = 4000;
        let mut counts = [0u32; N];
        for iteration in 0..DRAWS {
            let kept = drawn(RANDOM, N, 0.7, Draw::new("layer1.0.conv1", iteration));
            assert_eq!(kept.len(), 6);
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "{kept:?}");
            kept.into_iter().for_each(|c| counts[c] += 1);
        }
        // Chi-squared of counts with k / n = 0.3 each; drawing without replacement makes each
        // count's variance DRAWS p (1 - p) and the 20 of them sum to a constant: 19 degrees of
        // freedom after scaling by n / (n - 1). 43.8 is passed with probability 0.001.
        let (p, n) = (0.3, N as f64);
        let expected = DRAWS as f64 * p;
        let squares: f64 = counts
            .iter()
            .map(|&c| (f64::from(c) - expected).powi(2))
            .sum();
        let chi2 = squares / (expected * (1.0 - p)) * (n - 1.0) / n;
        assert!(chi2 < 43.8, "{chi2}: {counts:?}");
        assert!(chi2 > 4.0, "{chi2}: too even to be random: {counts:?}");
    }

    #[test]
    fn a_rotation_keeps_every_channel_equally_often() {
        let rotation = Selection::Rotation { rescale: true };
        assert_eq!(rotation.scale(3, 16), 16.0 / 3.0);
        // 3 of 16, as 80% leaves them: in 16 iterations the beginning goes round three times.
        for (n, rate) in [(16, 0.8), (64, 0.8), (10, 0.5), (1, 0.9)] {
            let mut counts = vec![0; n];
            let (mut planned, mut before) = (0, Vec::new());
            for iteration in 1000..1000 + n as u64 {
                let rate = DropRate::new(rate).unwrap();
                let unneeded = || panic!("a rotation needs no importance");
                let draw = Draw::new("conv1", iteration);
                let kept = rotation.choose(n, rate, draw, unneeded).unwrap();
                let kept = kept.unwrap_or((0..n).collect());
                assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "{kept:?}");
                assert!(n == 1 || kept != before);
                kept.iter().for_each(|&c| counts[c] += 1);
                (planned, before) = (kept.len(), kept);
            }
            assert!(counts.iter().all(|&count| count == planned), "{counts:?}");
        }
    }

    #[test]
    fn seed_layer_and_iteration_decide_and_nothing_else() {
        let draw = Draw::new("a", 5);
        let of = |seed, draw| {
            drawn(
                Selection::Random {
                    seed,
                    rescale: false,
                },
                64,
                0.5,
                draw,
            )
        };
        let set = of(1, draw);
        assert_eq!(set, of(1, draw));
        assert_eq!(
            set,
            drawn(
                Selection::Random {
                    seed: 1,
                    rescale: true
                },
                64,
                0.5,
                draw
            )
        );
        assert_ne!(set, of(2, draw));
        assert_ne!(set, of(1, Draw::new("b", 5)));
        assert_ne!(set, of(1, Draw::new("a", 6)));
    }

    #[test]
    fn all_are_kept_where_nothing_is_dropped() {
        let unneeded = || panic!("nothing to rank");
        let rotation = Selection::Rotation { rescale: false };
        for selection in [Selection::TopK, RANDOM, rotation] {
            let kept = selection.choose(8, DropRate::DENSE, Draw::default(), unneeded);
            assert_eq!(kept.unwrap(), None);
        }
        let rule = Selection::Adaptive(AdaptiveKeep::new(0.9).unwrap());
        let most = DropRate::new(0.9).unwrap();
        let kept = rule.choose(8, most, Draw::default(), || Ok(vec![1.0; 8]));
        assert_eq!(kept.unwrap(), None, "the drop rate plays no part");
    }

    #[test]
    fn importances_of_another_number_are_an_error() {
        let half = DropRate::new(0.5).unwrap();
        let few = || Ok(vec![1.0; 3]);
        let err = Selection::TopK.choose(4, half, Draw::default(), few);
        assert!(err.unwrap_err().to_string().contains("expected 4, found 3"));
    }

    #[test]
    fn only_random_sets_are_rescaled() {
        assert_eq!(RANDOM.scale(2, 10), 5.0);
        assert_eq!(Selection::TopK.scale(2, 10), 1.0);
        let plain = Selection::Random {
            seed: 3,
            rescale: false,
        };
        assert_eq!(plain.scale(2, 10), 1.0);
    }
}
