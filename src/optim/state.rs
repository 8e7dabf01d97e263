//! The state of Adam: what has to be kept for training to go on as if it had not stopped.

use std::collections::BTreeMap;

use dfdx::dtypes::Dtype;
use dfdx::nn::TensorCollection;
use dfdx::tensor::Storage;

use super::Adam;
use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, AnyTensor, Part};
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

impl<M: TensorCollection<E, D>, E: Dtype, D: Backend<E>> Adam<M, E, D> {
    /// A copy of the state, with one entry for each of the model's trainable parameters (zeros for
    /// those without an update so far).
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails, [`Error::TensorShape`] if `model` is not of the sizes
    /// of the one that was updated.
    pub fn state(&self, model: &M) -> Result<AdamState<E>> {
        let mut parameters = BTreeMap::new();
        for_each_part(model, &mut |name, part| {
            let Part::Weight(param) = part else {
                return Ok(());
            };
            let state = read(self.moments.get(&name), &name, param)?;
            match parameters.insert(name.clone(), state) {
                Some(_) => Err(Error::DuplicateName { name }),
                None => Ok(()),
            }
        })?;
        Ok(AdamState { parameters })
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
        mut state: AdamState<E>,
        place: &str,
    ) -> Result<PreparedState<E, D>> {
        let mut moments = BTreeMap::new();
        for_each_part(model, &mut |name, part| {
            let Part::Weight(param) = part else {
                return Ok(());
            };
            let stored = state.parameters.remove(&name);
            moments.insert(name.clone(), write(stored, place, name, param)?);
            Ok(())
        })?;
        match state.parameters.pop_first() {
            Some((name, state)) => Err(Error::UnexpectedTensor {
                place: place.to_owned(),
                name,
                found: state.shape,
            }),
            None => Ok(PreparedState(moments)),
        }
    }

    pub(crate) fn commit(&mut self, prepared: PreparedState<E, D>) {
        self.moments = prepared.0;
        self.unused.clear();
    }
}

/// A copy of a parameter's moments: zeros if it has none so far.
fn read<E: Dtype, D: Backend<E>>(
    moments: Option<&Moments<<D as Storage<E>>::Vec>>,
    name: &str,
    param: &dyn AnyTensor<E, D>,
) -> Result<ParameterState<E>> {
    let (dev, len, shape) = (param.device(), param.len(), param.sizes());
    let state = match moments {
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
            name: name.to_owned(),
            expected: state.shape,
            found: vec![state.exp_avg.len()],
            note: "".into(),
        });
    }
    Ok(state)
}

/// Moments on the parameter's device, from stored ones of its shape.
fn write<E: Dtype, D: Backend<E>>(
    stored: Option<ParameterState<E>>,
    place: &str,
    name: String,
    param: &dyn AnyTensor<E, D>,
) -> Result<Moments<<D as Storage<E>>::Vec>> {
    let (place, expected) = (place.to_owned(), param.sizes());
    let Some(state) = stored else {
        return Err(Error::MissingTensor {
            place,
            name,
            expected,
        });
    };
    let of_another_length = |moment: &&Vec<E>| moment.len() != param.len();
    let found = match [&state.exp_avg, &state.exp_avg_sq]
        .into_iter()
        .find(of_another_length)
    {
        _ if state.shape != expected => state.shape,
        Some(moment) => vec![moment.len()],
        None => {
            let dev = param.device();
            return Ok(Moments {
                step: state.step,
                exp_avg: dev.buffer_from_host(&state.exp_avg)?,
                exp_avg_sq: dev.buffer_from_host(&state.exp_avg_sq)?,
            });
        }
    };
    Err(Error::TensorShape {
        place,
        name,
        expected,
        found,
        note: "".into(),
    })
}
