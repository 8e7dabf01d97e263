//! Adam and AdamW.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Storage;

use super::rule::{Update, UpdateRule};
use super::FusedOptimizer;
use crate::backend::Backend;
use crate::bridge::ViewMut;
use crate::error::{Error, Result};
use crate::kernels::args::adam::AdamStep;

/// Adam ([arXiv 1412.6980](https://arxiv.org/abs/1412.6980), algorithm 1) or, with
/// [`AdamConfig::adamw`], AdamW ([arXiv 1711.05101](https://arxiv.org/abs/1711.05101),
/// algorithm 2), as PyTorch defines them. For a weight w with gradient g, in its t-th update:
///
/// - decoupled decay: w = (1 - lr decay) w; otherwise g = g + decay w
/// - m = beta1 m + (1 - beta1) g
/// - v = beta2 v + (1 - beta2) g^2
/// - w = w - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::optim::{Adam, AdamConfig};
///
/// let dev = Cpu::default();
/// let mut model = dev.build_module::<(Linear<3, 8>, ReLU, Linear<8, 1>), f32>();
/// let mut opt = Adam::new(&model, AdamConfig { lr: 1e-2, ..AdamConfig::adamw() }).unwrap();
/// let x: Tensor<Rank2<4, 3>, f32, _> = dev.sample_normal();
///
/// let mut grads = model.alloc_grads();
/// for step in 0..10 {
///     opt.set_lr(1e-2 / (1 + step) as f64).unwrap();
///     grads = model.forward(x.clone().traced(grads)).square().mean().backward();
///     opt.update_and_zero(&mut model, &mut grads).unwrap();
/// }
/// assert_eq!(opt.state(&model).unwrap().parameters["0.weight"].step, 10);
/// ```
pub type Adam<M, E, D> = FusedOptimizer<AdamConfig, M, E, D>;

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
    /// Whether weights whose gradient is exactly 0 stay as they are, with their moments, as
    /// `torch.optim.SparseAdam` leaves rows: those of channels that a sparse backward pass dropped.
    /// Otherwise their moments decay, and the weights go on moving by them. Default false, as in the
    /// paper.
    pub lazy: bool,
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
            lazy: false,
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
        positive("lr", self.lr)?;
        positive("eps", self.eps)?;
        positive("weight_decay", self.weight_decay)?;
        for (name, beta) in [("betas[0]", self.betas[0]), ("betas[1]", self.betas[1])] {
            in_zero_to_one(name, beta)?;
        }
        Ok(())
    }
}

impl UpdateRule for AdamConfig {
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
        &["exp_avg", "exp_avg_sq"]
    }

    fn update<E: Dtype, D: Backend<E>>(
        &self,
        update: &Update,
        w: ViewMut<'_, E, D>,
        buffers: &mut [<D as Storage<E>>::Vec],
        g: ViewMut<'_, E, D>,
    ) -> Result<Option<f64>> {
        let step = AdamStep {
            lr: self.lr * update.lr_factor,
            betas: self.betas,
            eps: self.eps,
            weight_decay: update.weight_decay.unwrap_or(self.weight_decay),
            decoupled: self.decoupled,
            step: update.number,
            grad_scale: update.scale,
            zero_grad: update.zero_grad,
            lazy: self.lazy,
        };
        let found = buffers.len();
        let [m, v] = buffers else {
            return Err(Error::shape("adam", "moments of a parameter", 2, found));
        };
        D::adam_update(&step, w, D::buffer_mut(m), D::buffer_mut(v), g)
    }

    fn begin<E: Dtype, D: Backend<E>>() {
        D::adam_begin();
    }

    fn finish<E: Dtype, D: Backend<E>>() -> Result<()> {
        D::adam_finish()
    }
}

/// That a value is finite and at least 0.
pub(super) fn positive(name: &'static str, value: f64) -> Result<()> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(()),
        false => Err(Error::parameter(name, value, "finite and at least 0")),
    }
}

/// That a value is in [0, 1).
pub(super) fn in_zero_to_one(name: &'static str, value: f64) -> Result<()> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err(Error::parameter(name, value, "in [0, 1)")),
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
