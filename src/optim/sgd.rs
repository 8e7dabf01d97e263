//! SGD with momentum.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Storage;

use super::adam::{in_zero_to_one, positive};
use super::rule::{Update, UpdateRule};
use super::FusedOptimizer;
use crate::backend::Backend;
use crate::bridge::ViewMut;
use crate::error::{Error, Result};
use crate::kernels::args::sgd::SgdStep;

/// Stochastic gradient descent, with momentum ([Sutskever et al.,
/// 2013](https://proceedings.mlr.press/v28/sutskever13.html)) if [`SgdConfig`] has some, as PyTorch
/// defines it. For a weight w with gradient g and a buffer b, which is g at first:
///
/// - g = g + decay w
/// - b = momentum b + (1 - dampening) g
/// - w = w - lr b; with Nesterov's momentum w = w - lr (g + momentum b); without momentum w = w - lr g
///
/// ```
/// use ssprop::prelude::*;
///
/// let model = Cpu::default().build_module::<Linear<3, 2>, f32>();
/// let config = SgdConfig { lr: 0.1, momentum: 0.9, nesterov: true, ..SgdConfig::default() };
/// let sgd = Sgd::new(&model, config)?;
/// let trainer = Trainer::with_optimizer(model, sgd);
/// # let _ = trainer;
/// # Ok::<(), ssprop::Error>(())
/// ```
pub type Sgd<M, E, D> = FusedOptimizer<SgdConfig, M, E, D>;

/// The hyperparameters of SGD, with the names and defaults of `torch.optim.SGD`.
///
/// ```
/// use ssprop::optim::SgdConfig;
///
/// let cfg = SgdConfig { momentum: 1.5, ..SgdConfig::default() };
/// assert_eq!(cfg.check().unwrap_err().to_string(), "momentum = 1.5: must be in [0, 1)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdConfig {
    /// Learning rate, at least 0. Default 1e-3.
    pub lr: f64,
    /// Share of the momentum buffer that is kept, in [0, 1). Default 0: no momentum, no buffer.
    pub momentum: f64,
    /// Share of the gradient that the momentum buffer does not get, in 0..=1. Default 0.
    pub dampening: f64,
    /// Nesterov's momentum. It needs momentum, and no dampening.
    pub nesterov: bool,
    /// Weight decay, an L2 term of the gradient, at least 0. Default 0.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        }
    }
}

impl SgdConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Parameter`] for the first field outside its range.
    pub fn check(&self) -> Result<()> {
        positive("lr", self.lr)?;
        in_zero_to_one("momentum", self.momentum)?;
        positive("weight_decay", self.weight_decay)?;
        if !(0.0..=1.0).contains(&self.dampening) {
            return Err(Error::parameter("dampening", self.dampening, "in 0..=1"));
        }
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            let range = "false without momentum, and with dampening";
            return Err(Error::parameter("nesterov", true, range));
        }
        Ok(())
    }
}

impl UpdateRule for SgdConfig {
    fn check(&self) -> Result<()> {
        self.check()
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn buffers(&self) -> &'static [&'static str] {
        match self.momentum == 0.0 {
            true => &[],
            false => &["momentum_buffer"],
        }
    }

    fn update<E: Dtype, D: Backend<E>>(
        &self,
        update: &Update,
        w: ViewMut<'_, E, D>,
        buffers: &mut [<D as Storage<E>>::Vec],
        g: ViewMut<'_, E, D>,
    ) -> Result<Option<f64>> {
        let step = SgdStep {
            lr: self.lr * update.lr_factor,
            momentum: self.momentum,
            dampening: self.dampening,
            nesterov: self.nesterov,
            weight_decay: update.weight_decay.unwrap_or(self.weight_decay),
            step: update.number,
            grad_scale: update.scale,
            zero_grad: update.zero_grad,
        };
        D::sgd_update(&step, w, buffers.first_mut().map(D::buffer_mut), g)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_their_range_are_named() {
        let of = SgdConfig {
            momentum: 0.9,
            ..SgdConfig::default()
        };
        for (cfg, named) in [
            (SgdConfig { lr: f64::NAN, ..of }, "lr = NaN"),
            (
                SgdConfig {
                    momentum: 1.5,
                    ..of
                },
                "momentum = 1.5",
            ),
            (
                SgdConfig {
                    dampening: -0.1,
                    ..of
                },
                "dampening = -0.1",
            ),
            (
                SgdConfig {
                    weight_decay: -1.0,
                    ..of
                },
                "weight_decay = -1",
            ),
            (
                SgdConfig {
                    nesterov: true,
                    momentum: 0.0,
                    ..of
                },
                "nesterov = true",
            ),
            (
                SgdConfig {
                    nesterov: true,
                    dampening: 0.1,
                    ..of
                },
                "nesterov = true",
            ),
        ] {
            let err = cfg.check().unwrap_err().to_string();
            assert!(err.starts_with(named), "{err}");
        }
        SgdConfig::default().check().unwrap();
        of.check().unwrap();
    }
}
