//! Adam and AdamW.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use dfdx::dtypes::Dtype;
use dfdx::nn::TensorCollection;
use dfdx::optim::{Optimizer, OptimizerUpdateError, UnusedTensors};
use dfdx::tensor::{Gradients, Storage};

use super::presence::{zeros, Presence};
use super::state::Moments;
use super::AdamConfig;
use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, for_each_part_mut, AnyTensor, Part, PartMut};
use crate::error::{Error, Result};
use crate::profile::timed;

/// Adam ([arXiv 1412.6980](https://arxiv.org/abs/1412.6980), algorithm 1) or, with
/// [`AdamConfig::adamw`], AdamW ([arXiv 1711.05101](https://arxiv.org/abs/1711.05101),
/// algorithm 2), as PyTorch defines them. For a weight w with gradient g, in its t-th update:
///
/// - decoupled decay: w = (1 - lr decay) w; otherwise g = g + decay w
/// - m = beta1 m + (1 - beta1) g
/// - v = beta2 v + (1 - beta2) g^2
/// - w = w - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
///
/// [`Adam::update_mut`] and [`Adam::update_and_zero`] work on the gradients in place. dfdx's
/// [`Optimizer::update`] copies them first, since dfdx lends no view of a `&Gradients`.
///
/// A parameter that has no gradient keeps its value and its state and is reported: in the error by
/// dfdx's ids (trait) or by name (own methods), and by name in [`Adam::unused_names`]. The
/// parameters that have one are updated all the same. Gradients from dfdx's `alloc_grads` hold
/// zeros for every parameter, so that none is absent there.
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
#[derive(Debug, Clone)]
pub struct Adam<M, E: Dtype, D: Storage<E>> {
    cfg: AdamConfig,
    pub(super) moments: BTreeMap<String, Moments<D::Vec>>,
    pub(super) unused: Vec<String>,
    /// The sum of squares of the last gradient, where the device tells it.
    squares: Option<f64>,
    presence: Presence<E, D>,
    model: PhantomData<fn(&M)>,
}

impl<M: TensorCollection<E, D>, E: Dtype, D: Backend<E>> Adam<M, E, D> {
    /// An optimizer for models like `model`, before its first step.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `cfg` fails [`AdamConfig::check`], [`Error::DuplicateName`] if two
    /// parameters have one path name.
    pub fn new(model: &M, cfg: AdamConfig) -> Result<Self> {
        cfg.check()?;
        let mut presence = Presence::new();
        watch(model, &mut presence)?;
        Ok(Self {
            cfg,
            moments: BTreeMap::new(),
            unused: Vec::new(),
            squares: None,
            presence,
            model: PhantomData,
        })
    }

    /// The hyperparameters.
    pub fn config(&self) -> &AdamConfig {
        &self.cfg
    }

    /// Sets the learning rate of the steps to come.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `lr` is negative or not finite.
    pub fn set_lr(&mut self, lr: f64) -> Result<()> {
        let cfg = AdamConfig { lr, ..self.cfg };
        cfg.check()?;
        self.cfg = cfg;
        Ok(())
    }

    /// The path names of the parameters that had no gradient in the last update.
    pub fn unused_names(&self) -> &[String] {
        &self.unused
    }

    /// The norm of the last update's gradient, over all parameters; `None` before the first update,
    /// and on CUDA, where it would have to be waited for.
    pub fn grad_norm(&self) -> Option<f64> {
        self.squares.map(f64::sqrt)
    }

    /// Updates the model's parameters, without a copy of the gradients.
    ///
    /// In gradients that were not made by `alloc_grads`, a parameter that had none has zeros
    /// afterwards.
    ///
    /// # Errors
    /// [`Error::UnusedParameters`] with the names of the parameters without a gradient, after all
    /// others were updated. At the first parameter that fails, [`Error::Shape`] if it is not
    /// contiguous, [`Error::Device`] if the device fails.
    pub fn update_mut(&mut self, model: &mut M, grads: &mut Gradients<E, D>) -> Result<()> {
        self.update_in_place(model, grads, false)?;
        self.report_unused()
    }

    /// [`Adam::update_mut`] that leaves zeros in the parameters' gradients, in the same pass over
    /// memory: the next backward pass can add to them without a `zero_grads`.
    ///
    /// # Errors
    /// As [`Adam::update_mut`].
    pub fn update_and_zero(&mut self, model: &mut M, grads: &mut Gradients<E, D>) -> Result<()> {
        timed("optimizer", || self.update_in_place(model, grads, true))?;
        self.report_unused()
    }

    fn report_unused(&self) -> Result<()> {
        if self.unused.is_empty() {
            return Ok(());
        }
        Err(Error::UnusedParameters {
            names: self.unused.clone(),
        })
    }

    fn update_in_place(
        &mut self,
        model: &mut M,
        grads: &mut Gradients<E, D>,
        zero_grad: bool,
    ) -> Result<UnusedTensors> {
        self.unused.clear();
        // The ids of the model's tensors may have changed since the last step.
        watch(model, &mut self.presence)?;
        self.presence.mark(grads)?;
        let mut update = Update {
            cfg: self.cfg,
            moments: &mut self.moments,
            unused: &mut self.unused,
            unused_tensors: UnusedTensors::default(),
            squares: Some(0.0),
            grads,
            zero_grad,
        };
        let done = for_each_part_mut(model, &mut |name, part| match part {
            PartMut::Weight(param) => update.parameter(name, param),
            PartMut::Statistic(_) | PartMut::Number(_) => Ok(()),
        });
        let unused = update.unused_tensors;
        self.squares = update.squares;
        grads.drop_non_leafs();
        done.map(|()| unused)
    }
}

impl<M, E, D> Optimizer<M, D, E> for Adam<M, E, D>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E>,
{
    fn update(
        &mut self,
        module: &mut M,
        gradients: &Gradients<E, D>,
    ) -> Result<(), OptimizerUpdateError<D::Err>> {
        self.update_in_place(module, &mut gradients.clone(), false)
            .map_err(|err| OptimizerUpdateError::DeviceError(D::device_error(err)))?
            .into()
    }
}

/// Shows `presence` all trainable parameters.
fn watch<M: TensorCollection<E, D>, E: Dtype, D: Backend<E>>(
    model: &M,
    presence: &mut Presence<E, D>,
) -> Result<()> {
    let mut names = BTreeSet::new();
    for_each_part(model, &mut |name, part| match part {
        Part::Weight(_) if names.contains(&name) => Err(Error::DuplicateName { name }),
        Part::Weight(param) => {
            names.insert(name);
            presence.watch(param)
        }
        Part::Statistic(_) | Part::Number(_) => Ok(()),
    })
}

struct Update<'a, E: Dtype, D: Storage<E>> {
    cfg: AdamConfig,
    moments: &'a mut BTreeMap<String, Moments<D::Vec>>,
    unused: &'a mut Vec<String>,
    unused_tensors: UnusedTensors,
    squares: Option<f64>,
    grads: &'a mut Gradients<E, D>,
    zero_grad: bool,
}

impl<E: Dtype, D: Backend<E>> Update<'_, E, D> {
    fn parameter(&mut self, name: String, param: &mut dyn AnyTensor<E, D>) -> Result<()> {
        let dev = param.device().clone();
        let len = param.len();
        let grad = param.gradient(self.grads)?;
        if Storage::<E>::len(&dev, grad) == 0 && len != 0 {
            // No backward pass may find the mark.
            *grad = zeros::<E, D>(&dev, len)?;
            param.add_to_unused(&mut self.unused_tensors);
            self.unused.push(name);
            return Ok(());
        }
        if !self.moments.contains_key(&name) {
            let moments = Moments {
                step: 0,
                exp_avg: zeros::<E, D>(&dev, len)?,
                exp_avg_sq: zeros::<E, D>(&dev, len)?,
            };
            self.moments.insert(name.clone(), moments);
        }
        let Some(moments) = self.moments.get_mut(&name) else {
            return Ok(());
        };
        let step = moments.step.saturating_add(1);
        let squares = D::adam_update(
            &self.cfg.step(step, self.zero_grad),
            param.view_mut("adam")?,
            D::buffer_mut(&mut moments.exp_avg),
            D::buffer_mut(&mut moments.exp_avg_sq),
            D::buffer_mut(grad),
        )?;
        self.squares = self.squares.zip(squares).map(|(sum, one)| sum + one);
        moments.step = step;
        Ok(())
    }
}
