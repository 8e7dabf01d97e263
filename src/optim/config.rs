//! The hyperparameters of Adam and AdamW.

use crate::error::{Error, Result};
use crate::kernels::args::adam::AdamStep;

/// The hyperparameters of Adam and AdamW, with PyTorch's names and defaults.
///
/// [`AdamConfig::adam`] (the [`Default`]) is `torch.optim.Adam`, [`AdamConfig::adamw`] is
/// `torch.optim.AdamW`; they differ in `weight_decay` and `decoupled` only.
///
/// ```
/// use ssprop::optim::AdamConfig;
///
/// let cfg = AdamConfig { lr: 3e-4, ..AdamConfig::adamw() };
/// assert!(cfg.decoupled && cfg.weight_decay == 1e-2);
/// cfg.check().unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConfig {
    /// Learning rate, at least 0. Default 1e-3.
    pub lr: f64,
    /// Decay rates of the first and the second moment, each in [0, 1). Default [0.9, 0.999].
    pub betas: [f64; 2],
    /// Added to the root of the second moment, at least 0. Default 1e-8.
    pub eps: f64,
    /// Weight decay, at least 0. Default 0 for Adam, 1e-2 for AdamW.
    pub weight_decay: f64,
    /// Whether weight decay shrinks the weight itself (AdamW,
    /// [arXiv 1711.05101](https://arxiv.org/abs/1711.05101)) or is an L2 term of the gradient.
    pub decoupled: bool,
}

impl AdamConfig {
    /// The defaults of `torch.optim.Adam`.
    pub const fn adam() -> Self {
        Self {
            lr: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
        }
    }

    /// The defaults of `torch.optim.AdamW`.
    pub const fn adamw() -> Self {
        Self {
            weight_decay: 1e-2,
            decoupled: true,
            ..Self::adam()
        }
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Parameter`] for the first field outside its range.
    pub fn check(&self) -> Result<()> {
        const POSITIVE: &str = "finite and at least 0";
        let positive = |name, value: f64| {
            if value.is_finite() && value >= 0.0 {
                Ok(())
            } else {
                Err(Error::parameter(name, value, POSITIVE))
            }
        };
        positive("lr", self.lr)?;
        positive("eps", self.eps)?;
        positive("weight_decay", self.weight_decay)?;
        for (name, beta) in [("betas[0]", self.betas[0]), ("betas[1]", self.betas[1])] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::parameter(name, beta, "in [0, 1)"));
            }
        }
        Ok(())
    }

    /// A parameter's `step`-th update, from 1.
    pub(super) fn step(&self, step: u64, zero_grad: bool) -> AdamStep {
        AdamStep {
            lr: self.lr,
            betas: self.betas,
            eps: self.eps,
            weight_decay: self.weight_decay,
            decoupled: self.decoupled,
            step,
            zero_grad,
        }
    }
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self::adam()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_their_range_are_named() {
        let cases = [
            (
                AdamConfig {
                    lr: -1.0,
                    ..AdamConfig::adam()
                },
                "lr = -1",
            ),
            (
                AdamConfig {
                    lr: f64::NAN,
                    ..AdamConfig::adam()
                },
                "lr = NaN",
            ),
            (
                AdamConfig {
                    eps: -1e-8,
                    ..AdamConfig::adam()
                },
                "eps = -0.00000001",
            ),
            (
                AdamConfig {
                    weight_decay: f64::INFINITY,
                    ..AdamConfig::adam()
                },
                "weight_decay = inf",
            ),
            (
                AdamConfig {
                    betas: [1.0, 0.9],
                    ..AdamConfig::adam()
                },
                "betas[0] = 1",
            ),
            (
                AdamConfig {
                    betas: [0.9, -0.1],
                    ..AdamConfig::adam()
                },
                "betas[1] = -0.1",
            ),
        ];
        for (cfg, named) in cases {
            let err = cfg.check().unwrap_err().to_string();
            assert!(err.starts_with(named), "{err}");
        }
        AdamConfig::adam().check().unwrap();
        AdamConfig::adamw().check().unwrap();
    }
}
