//! The state of a [`FusedOptimizer`], read and restored.

use std::collections::BTreeMap;

use dfdx::dtypes::Dtype;
use dfdx::nn::TensorCollection;
use dfdx::tensor::Storage;

use super::rule::UpdateRule;
use super::state::{OptimizerState, ParameterState, Slots};
use super::FusedOptimizer;
use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, AnyTensor, Part};
use crate::error::{Error, Result};

/// Who has the state that does not fit.
const PLACE: &str = "state of the optimizer";

impl<R: UpdateRule, M: TensorCollection<E, D>, E: Dtype, D: Backend<E>> FusedOptimizer<R, M, E, D> {
    /// A copy of the state, with one entry for each of the model's trainable parameters (zeros for
    /// those without an update so far).
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails, [`Error::TensorShape`] if `model` is not of the sizes
    /// of the one that was updated.
    pub fn state(&self, model: &M) -> Result<OptimizerState<E>> {
        let mut parameters = BTreeMap::new();
        for_each_part(model, &mut |name, part| {
            let Part::Weight(param) = part else {
                return Ok(());
            };
            let slots = self.slots.get(&name);
            let state = read(slots, self.rule.buffers(), &name, param)?;
            match parameters.insert(name.clone(), state) {
                Some(_) => Err(Error::DuplicateName { name }),
                None => Ok(()),
            }
        })?;
        Ok(OptimizerState { parameters })
    }

    /// Replaces the state by `state`, which has to have one entry for each of the model's
    /// trainable parameters and no other. The optimizer is left as it was if it has not.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::UnexpectedTensor`], [`Error::TensorShape`], each with the
    /// buffer's and the parameter's name and the shapes; [`Error::Device`] if the device fails.
    pub fn restore(&mut self, model: &M, mut state: OptimizerState<E>) -> Result<()> {
        let buffers = self.rule.buffers();
        let mut slots = BTreeMap::new();
        for_each_part(model, &mut |name, part| {
            let Part::Weight(param) = part else {
                return Ok(());
            };
            let stored = state.parameters.remove(&name);
            let own = write(stored, buffers, &name, param)?;
            slots.insert(name, own);
            Ok(())
        })?;
        if let Some((name, state)) = state.parameters.pop_first() {
            let buffer = state.buffers.keys().next().map_or("step", String::as_str);
            return Err(unexpected(buffer, &name, state.shape));
        }
        self.slots = slots;
        self.unused.clear();
        Ok(())
    }
}

fn unexpected(buffer: &str, parameter: &str, found: Vec<usize>) -> Error {
    Error::UnexpectedTensor {
        place: PLACE.to_owned(),
        name: format!("{buffer}.{parameter}"),
        found,
    }
}

/// A copy of a parameter's buffers: zeros if it has none so far.
fn read<E: Dtype, D: Backend<E>>(
    slots: Option<&Slots<<D as Storage<E>>::Vec>>,
    names: &[&str],
    parameter: &str,
    param: &dyn AnyTensor<E, D>,
) -> Result<ParameterState<E>> {
    let (dev, shape) = (param.device(), param.sizes());
    let mut buffers = BTreeMap::new();
    for (i, &name) in names.iter().enumerate() {
        let values = match slots.and_then(|slots| slots.buffers.get(i)) {
            Some(buffer) => dev.buffer_to_host(buffer)?,
            None => vec![E::default(); param.len()],
        };
        if values.len() != param.len() {
            return Err(Error::TensorShape {
                place: PLACE.to_owned(),
                name: format!("{name}.{parameter}"),
                expected: shape,
                found: vec![values.len()],
                note: "".into(),
            });
        }
        buffers.insert(name.to_owned(), values);
    }
    Ok(ParameterState {
        step: slots.map_or(0, |slots| slots.step),
        shape,
        buffers,
    })
}

/// Buffers on the parameter's device, from stored ones of its shape.
fn write<E: Dtype, D: Backend<E>>(
    stored: Option<ParameterState<E>>,
    names: &[&str],
    parameter: &str,
    param: &dyn AnyTensor<E, D>,
) -> Result<Slots<<D as Storage<E>>::Vec>> {
    let expected = param.sizes();
    let missing = |buffer: &str| Error::MissingTensor {
        place: PLACE.to_owned(),
        name: format!("{buffer}.{parameter}"),
        expected: param.sizes(),
    };
    let Some(mut state) = stored else {
        return Err(missing(names.first().unwrap_or(&"step")));
    };
    let mut buffers = Vec::new();
    for &name in names {
        let values = state.buffers.remove(name).ok_or_else(|| missing(name))?;
        let found = match values.len() == param.len() {
            true => state.shape.clone(),
            false => vec![values.len()],
        };
        if found != expected {
            return Err(Error::TensorShape {
                place: PLACE.to_owned(),
                name: format!("{name}.{parameter}"),
                expected,
                found,
                note: "".into(),
            });
        }
        buffers.push(param.device().buffer_from_host(&values)?);
    }
    match state.buffers.pop_first() {
        Some((name, _)) => Err(unexpected(&name, parameter, state.shape)),
        None => Ok(Slots {
            step: state.step,
            buffers,
        }),
    }
}
