//! Optimizers that update a parameter in one pass over memory.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use dfdx::dtypes::Dtype;
use dfdx::nn::TensorCollection;
use dfdx::optim::{Optimizer as DfdxOptimizer, OptimizerUpdateError, UnusedTensors};
use dfdx::tensor::{Gradients, Storage};

use super::groups::Treatment;
use super::presence::{zeros, Presence};
use super::rule::{Update, UpdateRule};
use super::state::{OptimizerState, Slots};
use super::{Optimizer, ParameterGroups};
use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, for_each_part_mut, AnyTensor, Part, PartMut};
use crate::error::{Error, Result};
use crate::profile::timed;

/// An optimizer with the hyperparameters `R`: [`Adam`](super::Adam) or [`Sgd`](super::Sgd). An update is
/// one pass over weights, state and gradients.
///
/// [`update_mut`](Self::update_mut) and [`update_and_zero`](Self::update_and_zero) work on the gradients in
/// place. dfdx's [`Optimizer::update`](DfdxOptimizer::update) copies them first, since dfdx lends no view
/// of a `&Gradients`.
///
/// A parameter that has no gradient keeps its value and its state and is reported: in the error by
/// dfdx's ids (trait) or by name (own methods), and by name in [`unused_names`](Self::unused_names). The
/// parameters that have one are updated all the same. Gradients from dfdx's `alloc_grads` hold
/// zeros for every parameter, so that none is absent there.
#[derive(Debug, Clone)]
pub struct FusedOptimizer<R, M, E: Dtype, D: Storage<E>> {
    pub(super) rule: R,
    pub(super) slots: BTreeMap<String, Slots<D::Vec>>,
    pub(super) unused: Vec<String>,
    /// By name; what is not in it is trained as all are.
    groups: BTreeMap<String, Treatment>,
    /// The sum of squares of the last gradient, where the device tells it.
    squares: Option<f64>,
    presence: Presence<E, D>,
    model: PhantomData<fn(&M)>,
}

impl<R: UpdateRule, M: TensorCollection<E, D>, E: Dtype, D: Backend<E>> FusedOptimizer<R, M, E, D> {
    /// An optimizer for models like `model`, before its first step.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a hyperparameter is out of its range, [`Error::DuplicateName`] if two
    /// parameters have one path name.
    pub fn new(model: &M, cfg: R) -> Result<Self> {
        cfg.check()?;
        let mut presence = Presence::new();
        watch(model, &mut presence)?;
        Ok(Self {
            rule: cfg,
            slots: BTreeMap::new(),
            unused: Vec::new(),
            groups: BTreeMap::new(),
            squares: None,
            presence,
            model: PhantomData,
        })
    }

    /// The same with parameters that are trained otherwise than the others.
    ///
    /// # Errors
    /// [`Error::UnmatchedParameters`] for the first path that holds none of the model's parameters.
    pub fn with_groups(mut self, model: &M, groups: &ParameterGroups) -> Result<Self> {
        self.groups = groups.resolve::<M, E, D>(model)?;
        Ok(self)
    }

    /// The hyperparameters.
    pub fn config(&self) -> &R {
        &self.rule
    }

    /// Sets the learning rate of the steps to come.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `lr` is negative or not finite.
    pub fn set_lr(&mut self, lr: f64) -> Result<()> {
        let mut rule = self.rule;
        rule.set_lr(lr);
        rule.check()?;
        self.rule = rule;
        Ok(())
    }

    /// The path names of the parameters that had no gradient in the last update.
    pub fn unused_names(&self) -> &[String] {
        &self.unused
    }

    /// The norm of the last update's gradient, over all parameters that are not frozen; `None` before the
    /// first update, and on CUDA, where it would have to be waited for.
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
        self.update_in_place(model, grads, 1.0, false)?;
        self.report_unused()
    }

    /// [`update_mut`](Self::update_mut) that leaves zeros in the parameters' gradients, in the same pass
    /// over memory: the next backward pass can add to them without a `zero_grads`.
    ///
    /// # Errors
    /// As [`update_mut`](Self::update_mut).
    pub fn update_and_zero(&mut self, model: &mut M, grads: &mut Gradients<E, D>) -> Result<()> {
        self.step(model, grads, 1.0)
    }

    fn report_unused(&self) -> Result<()> {
        if self.unused.is_empty() {
            return Ok(());
        }
        Err(Error::UnusedParameters {
            names: self.unused.clone(),
        })
    }

    /// Whether `grads`, of which what is no leaf has been dropped, still hold a gradient of every parameter.
    fn all_stay(&self, model: &M, grads: &mut Gradients<E, D>) -> Result<bool> {
        self.presence.mark(grads)?;
        let mut all = true;
        for_each_part(model, &mut |_, part| {
            if let Part::Weight(param) = part {
                let dev = param.device().clone();
                all &= Storage::<E>::len(&dev, param.gradient(grads)?) == param.len();
            }
            Ok(())
        })?;
        // The marks are no leafs.
        grads.drop_non_leafs();
        Ok(all)
    }

    fn update_in_place(
        &mut self,
        model: &mut M,
        grads: &mut Gradients<E, D>,
        scale: f64,
        zero_grad: bool,
    ) -> Result<UnusedTensors> {
        self.unused.clear();
        // The ids of the model's tensors may have changed since the last step.
        watch(model, &mut self.presence)?;
        if self.presence.has_changed() {
            watch(model, &mut self.presence)?;
            self.presence.settle();
        }
        let was_complete = self.presence.has_token(grads)?;
        if !was_complete {
            self.presence.mark(grads)?;
        }
        R::begin::<E, D>();
        let mut walk = Walk {
            rule: self.rule,
            groups: &self.groups,
            slots: &mut self.slots,
            unused: &mut self.unused,
            unused_tensors: UnusedTensors::default(),
            squares: Some(0.0),
            grads,
            scale,
            zero_grad,
            absent: false,
        };
        let done = for_each_part_mut(model, &mut |name, part| match part {
            PartMut::Weight(param) => walk.parameter(name, param),
            PartMut::Statistic(_) | PartMut::Number(_) => Ok(()),
        });
        let done = R::finish::<E, D>().and(done);
        let unused = walk.unused_tensors;
        self.squares = walk.squares.map(|squares| scale * scale * squares);
        let is_complete = !walk.absent;
        grads.drop_non_leafs();
        done?;
        if !was_complete {
            let stays = is_complete && self.all_stay(model, grads)?;
            self.presence.set_token(grads, stays)?;
        }
        Ok(unused)
    }
}

impl<R, M, E, D> Optimizer<M, E, D> for FusedOptimizer<R, M, E, D>
where
    R: UpdateRule,
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E>,
{
    fn step(&mut self, model: &mut M, grads: &mut Gradients<E, D>, scale: f64) -> Result<()> {
        timed("optimizer", || {
            self.update_in_place(model, grads, scale, true)
        })?;
        self.report_unused()
    }

    fn lr(&self) -> f64 {
        self.rule.lr()
    }

    fn set_lr(&mut self, lr: f64) -> Result<()> {
        self.set_lr(lr)
    }

    fn grad_norm(&self) -> Option<f64> {
        self.grad_norm()
    }

    fn state(&self, model: &M) -> Result<OptimizerState<E>> {
        self.state(model)
    }

    fn restore(&mut self, model: &M, state: OptimizerState<E>) -> Result<()> {
        self.restore(model, state)
    }

    fn is_frozen(&self, path: &str) -> bool {
        let below = |name: &str| {
            let rest = name.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let parameters = self.groups.range(path.to_owned()..);
        let mut parameters = parameters
            .take_while(|(name, _)| name.starts_with(path))
            .filter(|(name, _)| below(name))
            .peekable();
        parameters.peek().is_some() && parameters.all(|(_, treatment)| treatment.frozen)
    }
}

impl<R, M, E, D> DfdxOptimizer<M, D, E> for FusedOptimizer<R, M, E, D>
where
    R: UpdateRule,
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E>,
{
    fn update(
        &mut self,
        module: &mut M,
        gradients: &Gradients<E, D>,
    ) -> Result<(), OptimizerUpdateError<D::Err>> {
        self.update_in_place(module, &mut gradients.clone(), 1.0, false)
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

/// A step's way through the parameters.
struct Walk<'a, R, E: Dtype, D: Storage<E>> {
    rule: R,
    groups: &'a BTreeMap<String, Treatment>,
    slots: &'a mut BTreeMap<String, Slots<D::Vec>>,
    unused: &'a mut Vec<String>,
    unused_tensors: UnusedTensors,
    squares: Option<f64>,
    grads: &'a mut Gradients<E, D>,
    scale: f64,
    zero_grad: bool,
    /// Whether a parameter had no gradient.
    absent: bool,
}

impl<R: UpdateRule, E: Dtype, D: Backend<E>> Walk<'_, R, E, D> {
    fn parameter(&mut self, name: String, param: &mut dyn AnyTensor<E, D>) -> Result<()> {
        let dev = param.device().clone();
        let len = param.len();
        let treatment = self.groups.get(&name).copied().unwrap_or_default();
        let grad = param.gradient(self.grads)?;
        if Storage::<E>::len(&dev, grad) == 0 && len != 0 {
            self.absent = true;
            // No backward pass may find the mark.
            *grad = zeros::<E, D>(&dev, len)?;
            if !treatment.frozen {
                param.add_to_unused(&mut self.unused_tensors);
                self.unused.push(name);
            }
            return Ok(());
        }
        if treatment.frozen {
            if self.zero_grad {
                // What waits may be of the same gradient, by another name.
                R::finish::<E, D>()?;
                *grad = zeros::<E, D>(&dev, len)?;
            }
            return Ok(());
        }
        if !self.slots.contains_key(&name) {
            let buffers = self.rule.buffers().iter();
            let slots = Slots {
                step: 0,
                buffers: buffers
                    .map(|_| zeros::<E, D>(&dev, len))
                    .collect::<Result<_>>()?,
            };
            self.slots.insert(name.clone(), slots);
        }
        let Some(slots) = self.slots.get_mut(&name) else {
            return Ok(());
        };
        let update = Update {
            number: slots.step.saturating_add(1),
            lr_factor: treatment.lr_factor,
            weight_decay: treatment.weight_decay,
            scale: self.scale,
            zero_grad: self.zero_grad,
        };
        let squares = self.rule.update::<E, D>(
            &update,
            param.view_mut("optimizer")?,
            &mut slots.buffers,
            D::buffer_mut(grad),
        )?;
        self.squares = self.squares.zip(squares).map(|(sum, one)| sum + one);
        slots.step = update.number;
        Ok(())
    }
}
