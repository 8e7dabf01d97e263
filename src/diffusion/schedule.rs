//! How much noise each step of the diffusion adds.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The smallest and the largest beta of the schedules that go from one to the other.
const START: f64 = 1e-4;
const END: f64 = 2e-2;
/// s of the cosine schedule, which keeps its first betas from being too small.
const COSINE_OFFSET: f64 = 8e-3;
/// The largest beta of the cosine schedule, which has a singularity at its end.
const LARGEST: f64 = 0.999;

/// The shape of the noise's variances beta_t over the timesteps t in 0..T.
///
/// | name | beta_t |
/// |---|---|
/// | `linear` | linear in its root, from 1e-4 to 2e-2 |
/// | `cosine` | 1 - f(t + 1) / f(t), at most 0.999, f(t) = cos^2((t / T + 0.008) / 1.008 pi / 2) |
/// | `sqrt-linear` | linear from 1e-4 to 2e-2 |
/// | `sqrt` | the root of `sqrt-linear` |
///
/// The names are those that latent diffusion ([arXiv 2112.10752](https://arxiv.org/abs/2112.10752))
/// gave them; the linear schedule of DDPM ([arXiv 2006.11239](https://arxiv.org/abs/2006.11239),
/// Section 4) is `sqrt-linear` there. `cosine` is Eq. 17 of
/// [arXiv 2102.09672](https://arxiv.org/abs/2102.09672).
///
/// ```
/// use ssprop::diffusion::BetaSchedule;
///
/// let schedule: BetaSchedule = "cosine".parse()?;
/// let betas = schedule.betas(200)?;
/// assert_eq!((betas.len(), betas[199]), (200, 0.999));
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BetaSchedule {
    /// `linear`
    Linear,
    /// `cosine`
    Cosine,
    /// `sqrt-linear`
    SqrtLinear,
    /// `sqrt`
    Sqrt,
}

impl BetaSchedule {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Linear, Self::Cosine, Self::SqrtLinear, Self::Sqrt];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::SqrtLinear => "sqrt-linear",
            Self::Sqrt => "sqrt",
        }
    }

    /// beta_t for t in 0..`steps`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for 0 steps.
    pub fn betas(self, steps: usize) -> Result<Vec<f64>> {
        if steps == 0 {
            return Err(Error::parameter("steps", steps, "at least 1"));
        }
        let betas = match self {
            Self::Linear => line(START.sqrt(), END.sqrt(), steps)
                .map(|root| root * root)
                .collect(),
            Self::Cosine => {
                let alpha_bar = |t: usize| {
                    let time = (t as f64 / steps as f64 + COSINE_OFFSET) / (1.0 + COSINE_OFFSET);
                    (time * std::f64::consts::FRAC_PI_2).cos().powi(2)
                };
                (0..steps)
                    .map(|t| (1.0 - alpha_bar(t + 1) / alpha_bar(t)).min(LARGEST))
                    .collect()
            }
            Self::SqrtLinear => line(START, END, steps).collect(),
            Self::Sqrt => line(START, END, steps).map(f64::sqrt).collect(),
        };
        Ok(betas)
    }
}

/// `steps` values at equal distances, the first and the last given.
fn line(start: f64, end: f64, steps: usize) -> impl Iterator<Item = f64> {
    let intervals = steps.saturating_sub(1).max(1) as f64;
    (0..steps).map(move |i| start + (end - start) * (i as f64 / intervals))
}

impl fmt::Display for BetaSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for BetaSchedule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| {
            Error::parameter("beta schedule", name, "linear, cosine, sqrt-linear or sqrt")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_refused() {
        for schedule in BetaSchedule::ALL {
            assert_eq!(
                schedule.to_string().parse::<BetaSchedule>().unwrap(),
                schedule
            );
        }
        let err = "quadratic".parse::<BetaSchedule>().unwrap_err().to_string();
        assert!(err.contains("quadratic") && err.contains("cosine"), "{err}");
    }

    #[test]
    fn every_length_gives_variances() {
        for schedule in BetaSchedule::ALL {
            assert!(schedule.betas(0).is_err());
            for steps in [1, 2, 3, 50] {
                let betas = schedule.betas(steps).unwrap();
                assert_eq!(betas.len(), steps);
                assert!(
                    betas.iter().all(|b| *b > 0.0 && *b < 1.0),
                    "{schedule}: {betas:?}"
                );
                assert!(betas.is_sorted(), "{schedule}: {betas:?}");
            }
        }
    }
}
