//! The state of Adam: what has to be kept for training to go on as if it had not stopped.

use std::collections::BTreeMap;

use dfdx::dtypes::Dtype;
use dfdx::nn::{RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor};
use dfdx::nn::{ViewTensorName, ViewTensorRef};
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Storage, Tensor};
use dfdx::tensor_ops::Device;

use super::kernel::AdamKernel;
use super::Adam;
use crate::error::{Error, Result};

/// The state of one parameter, in the host's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterState<E> {
    /// How many updates the parameter has had.
    pub step: u64,
    /// The parameter's shape, and that of both moments.
    pub shape: Vec<usize>,
    /// m, the running mean of the gradient, in row-major order.
    pub exp_avg: Vec<E>,
    /// v, the running mean of the squared gradient, in row-major order.
    pub exp_avg_sq: Vec<E>,
}

/// The state of [`Adam`], by the parameters' path names. The hyperparameters are not part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamState<E> {
    /// One entry a trainable parameter.
    pub parameters: BTreeMap<String, ParameterState<E>>,
}

/// A parameter's moments on its device.
#[derive(Debug, Clone)]
pub(super) struct Moments<V> {
    pub(super) step: u64,
    pub(super) exp_avg: V,
    pub(super) exp_avg_sq: V,
}

/// State that was checked against a model and copied to its device.
pub(crate) struct PreparedState<E, D: Storage<E>>(pub(super) BTreeMap<String, Moments<D::Vec>>);

impl<M: TensorCollection<E, D>, E: Dtype, D: Device<E> + AdamKernel<E>> Adam<M, E, D> {
    /// A copy of the state, with one entry for each of the model's trainable parameters (zeros for
    /// those without an update so far).
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails, [`Error::TensorShape`] if `model` is not of the sizes
    /// of the one that was updated.
    pub fn state(&self, model: &M) -> Result<AdamState<E>> {
        let mut read = Read {
            moments: &self.moments,
            state: AdamState {
                parameters: BTreeMap::new(),
            },
        };
        M::iter_tensors(&mut RecursiveWalker {
            m: (model, String::new()),
            f: &mut read,
        })?;
        Ok(read.state)
    }

    /// Replaces the state by `state`, which has to have one entry for each of the model's
    /// trainable parameters and no other. The optimizer is left as it was if it has not.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::UnexpectedTensor`], [`Error::TensorShape`], each with the
    /// parameter's name and the shapes; [`Error::Device`] if the device fails.
    pub fn restore(&mut self, model: &M, state: AdamState<E>) -> Result<()> {
        let prepared = self.prepare(model, state, "state of the optimizer")?;
        self.commit(prepared);
        Ok(())
    }

    /// The checks and copies of [`Adam::restore`]; errors name `place`.
    pub(crate) fn prepare(
        &self,
        model: &M,
        state: AdamState<E>,
        place: &str,
    ) -> Result<PreparedState<E, D>> {
        let mut write = Write::<E, D> {
            place,
            state,
            moments: BTreeMap::new(),
        };
        M::iter_tensors(&mut RecursiveWalker {
            m: (model, String::new()),
            f: &mut write,
        })?;
        match write.state.parameters.pop_first() {
            Some((name, state)) => Err(Error::UnexpectedTensor {
                place: place.to_owned(),
                name,
                found: state.shape,
            }),
            None => Ok(PreparedState(write.moments)),
        }
    }

    pub(crate) fn commit(&mut self, prepared: PreparedState<E, D>) {
        self.moments = prepared.0;
        self.unused.clear();
    }
}

struct Read<'a, E: Dtype, D: Storage<E>> {
    moments: &'a BTreeMap<String, Moments<D::Vec>>,
    state: AdamState<E>,
}

impl<E: Dtype, D: Device<E> + AdamKernel<E>> TensorVisitor<E, D> for Read<'_, E, D> {
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
        let dev = param.device();
        let len = param.shape().num_elements();
        let shape: Vec<usize> = param.shape().concrete().into();
        let state = match self.moments.get(&name) {
            Some(moments) => ParameterState {
                step: moments.step,
                exp_avg: dev.buffer_to_host(&moments.exp_avg)?,
                exp_avg_sq: dev.buffer_to_host(&moments.exp_avg_sq)?,
                shape,
            },
            None => ParameterState {
                step: 0,
                exp_avg: vec![E::default(); len],
                exp_avg_sq: vec![E::default(); len],
                shape,
            },
        };
        if state.exp_avg.len() != len {
            return Err(Error::TensorShape {
                place: "state of the optimizer".to_owned(),
                name,
                expected: state.shape,
                found: vec![state.exp_avg.len()],
            });
        }
        match self.state.parameters.insert(name.clone(), state) {
            Some(_) => Err(Error::DuplicateName { name }),
            None => Ok(None),
        }
    }
}

struct Write<'a, E: Dtype, D: Storage<E>> {
    place: &'a str,
    state: AdamState<E>,
    moments: BTreeMap<String, Moments<D::Vec>>,
}

impl<E: Dtype, D: Device<E> + AdamKernel<E>> TensorVisitor<E, D> for Write<'_, E, D> {
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
        let place = self.place.to_owned();
        let expected: Vec<usize> = param.shape().concrete().into();
        let Some(state) = self.state.parameters.remove(&name) else {
            return Err(Error::MissingTensor {
                place,
                name,
                expected,
            });
        };
        let len = param.shape().num_elements();
        if state.shape != expected {
            return Err(Error::TensorShape {
                place,
                name,
                expected,
                found: state.shape,
            });
        }
        for moment in [&state.exp_avg, &state.exp_avg_sq] {
            if moment.len() != len {
                return Err(Error::TensorShape {
                    place,
                    name,
                    expected,
                    found: vec![moment.len()],
                });
            }
        }
        let dev = param.device();
        let moments = Moments {
            step: state.step,
            exp_avg: dev.buffer_from_host(&state.exp_avg)?,
            exp_avg_sq: dev.buffer_from_host(&state.exp_avg_sq)?,
        };
        self.moments.insert(name, moments);
        Ok(None)
    }
}
