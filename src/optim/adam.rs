//! Adam and AdamW.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use dfdx::dtypes::Dtype;
use dfdx::nn::{RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor};
use dfdx::nn::{ViewTensorMut, ViewTensorName, ViewTensorRef};
use dfdx::optim::{Optimizer, OptimizerUpdateError, UnusedTensors};
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Gradients, Storage, Tensor};
use dfdx::tensor_ops::Device;

use super::kernel::{AdamKernel, AdamStep};
use super::presence::{zeros, Presence};
use super::state::Moments;
use super::AdamConfig;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::profile::timed;

/// Adam ([arXiv 1412.6980](https://arxiv.org/abs/1412.6980), algorithm 1) or, with
/// [`AdamConfig::adamw`], AdamW ([arXiv 1711.05101](https://arxiv.org/abs/1711.05101),
/// algorithm 2), as PyTorch defines them. [`AdamKernel::adam_update`] has the formula.
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
    presence: Presence<E, D>,
    model: PhantomData<fn(&M)>,
}

impl<M: TensorCollection<E, D>, E: Dtype, D: Device<E>> Adam<M, E, D> {
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
}

impl<M: TensorCollection<E, D>, E: Dtype, D: Device<E> + AdamKernel<E>> Adam<M, E, D> {
    /// Updates the model's parameters, without a copy of the gradients.
    ///
    /// In gradients that were not made by `alloc_grads`, a parameter that had none has zeros
    /// afterwards.
    ///
    /// # Errors
    /// [`Error::UnusedParameters`] with the names of the parameters without a gradient, after all
    /// others were updated. [`Error::Shape`] and [`Error::Device`] as
    /// [`AdamKernel::adam_update`], at the first parameter that fails.
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
            grads,
            zero_grad,
        };
        let done = M::iter_tensors(&mut RecursiveWalker {
            m: (model, String::new()),
            f: &mut update,
        });
        let unused = update.unused_tensors;
        grads.drop_non_leafs();
        done.map(|_| unused)
    }
}

impl<M, E, D> Optimizer<M, D, E> for Adam<M, E, D>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E> + AdamKernel<E>,
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
fn watch<M: TensorCollection<E, D>, E: Dtype, D: Device<E>>(
    model: &M,
    presence: &mut Presence<E, D>,
) -> Result<()> {
    M::iter_tensors(&mut RecursiveWalker {
        m: (model, String::new()),
        f: &mut Watch {
            presence,
            names: BTreeSet::new(),
        },
    })?;
    Ok(())
}

struct Watch<'a, E: Dtype, D: Storage<E>> {
    presence: &'a mut Presence<E, D>,
    names: BTreeSet<String>,
}

impl<E: Dtype, D: Device<E>> TensorVisitor<E, D> for Watch<'_, E, D> {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = Error;
    type E2 = E;
    type D2 = D;

    fn visit<S: Shape>(
        &mut self,
        opts: TensorOptions<S, E, D>,
        (param, name): (&Tensor<S, E, D>, String),
    ) -> Result<Option<Tensor<S, E, D>>> {
        if !opts.do_gradient_update {
            return Ok(None);
        }
        if self.names.contains(&name) {
            return Err(Error::DuplicateName { name });
        }
        self.names.insert(name);
        self.presence.watch(param)?;
        Ok(None)
    }
}

struct Update<'a, E: Dtype, D: Storage<E>> {
    cfg: AdamConfig,
    moments: &'a mut BTreeMap<String, Moments<D::Vec>>,
    unused: &'a mut Vec<String>,
    unused_tensors: UnusedTensors,
    grads: &'a mut Gradients<E, D>,
    zero_grad: bool,
}

impl<E: Dtype, D: Device<E> + AdamKernel<E>> TensorVisitor<E, D> for Update<'_, E, D> {
    type Viewer = (ViewTensorMut, ViewTensorName);
    type Err = Error;
    type E2 = E;
    type D2 = D;

    fn visit<S: Shape>(
        &mut self,
        opts: TensorOptions<S, E, D>,
        (param, name): (&mut Tensor<S, E, D>, String),
    ) -> Result<Option<Tensor<S, E, D>>> {
        if !opts.do_gradient_update {
            return Ok(None);
        }
        let dev = param.device().clone();
        let len = param.shape().num_elements();
        let grad = self.grads.get_or_alloc_mut(param).map_err(Error::device)?;
        if Storage::<E>::len(&dev, grad) == 0 && len != 0 {
            // No backward pass may find the mark.
            *grad = zeros::<E, D>(&dev, len)?;
            self.unused_tensors.add(param);
            self.unused.push(name);
            return Ok(None);
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
            return Ok(None);
        };
        let step = AdamStep {
            cfg: self.cfg,
            step: moments.step.saturating_add(1),
            zero_grad: self.zero_grad,
        };
        dev.adam_update(
            &step,
            param,
            &mut moments.exp_avg,
            &mut moments.exp_avg_sq,
            grad,
        )?;
        moments.step = step.step;
        Ok(None)
    }
}
