//! A model together with the state of its optimizer.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::Backend;
use dfdx::nn::TensorCollection;

use super::element::StoredElement;
use super::file::{self, Entry, Stored};
use super::{check_all, model, Metadata, EMA, OPTIMIZER};
use crate::error::{Error, Result};
use crate::optim::{Optimizer, OptimizerState, ParameterState};

/// The number of updates that a parameter has had.
const STEP: &str = "step";
const STEP_DTYPE: safetensors::Dtype = safetensors::Dtype::I64;

/// Saves a model, the state of its optimizer and the metadata in one file, from which training can
/// go on bit for bit. The optimizer's hyperparameters are not saved.
///
/// # Errors
/// As [`save`](super::save) and [`Optimizer::state`].
pub fn save_training<M, E, D, O>(
    path: impl AsRef<Path>,
    model: &M,
    optimizer: &O,
    metadata: &Metadata,
) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
    O: Optimizer<M, E, D> + ?Sized,
{
    save_training_with(path, model, optimizer, None, metadata)
}

/// [`save_training`] with a moving average of the model, under names that begin with `ema.`.
pub(crate) fn save_training_with<M, E, D, O>(
    path: impl AsRef<Path>,
    model: &M,
    optimizer: &O,
    average: Option<&M>,
    metadata: &Metadata,
) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
    O: Optimizer<M, E, D> + ?Sized,
{
    let path = path.as_ref();
    let mut entries = model::entries(model)?;
    if let Some(average) = average {
        let mut averages = model::entries(average)?;
        for entry in &mut averages {
            entry.name.insert_str(0, EMA);
        }
        entries.append(&mut averages);
    }
    for (parameter, state) in optimizer.state(model)?.parameters {
        let name = format!("{OPTIMIZER}{STEP}.{parameter}");
        let Ok(step) = i64::try_from(state.step) else {
            return Err(Error::StoredValue {
                place: path.display().to_string(),
                name,
                value: state.step.to_string(),
                range: "at most 2^63 - 1",
            });
        };
        entries.push(Entry {
            name,
            dtype: STEP_DTYPE,
            shape: Vec::new(),
            data: step.to_le_bytes().to_vec(),
        });
        for (buffer, values) in state.buffers {
            let mut data = Vec::new();
            E::encode(&values, &mut data);
            entries.push(Entry {
                name: format!("{OPTIMIZER}{buffer}.{parameter}"),
                dtype: E::DTYPE,
                shape: state.shape.clone(),
                data,
            });
        }
    }
    file::write(path, entries, metadata)
}

/// Loads what [`save_training`] saved into a model and its optimizer, and returns the metadata. On
/// an error both are as they were.
///
/// # Errors
/// As [`load`](super::load), for the tensors of the model and those of the optimizer.
pub fn load_training<M, E, D, O>(
    path: impl AsRef<Path>,
    model: &mut M,
    optimizer: &mut O,
) -> Result<Metadata>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
    O: Optimizer<M, E, D> + ?Sized,
{
    load_training_with(path, model, optimizer, None)
}

/// [`load_training`] with a moving average of the model, which the file has to have then.
pub(crate) fn load_training_with<M, E, D, O>(
    path: impl AsRef<Path>,
    model: &mut M,
    optimizer: &mut O,
    average: Option<&mut M>,
) -> Result<Metadata>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
    O: Optimizer<M, E, D> + ?Sized,
{
    let path = path.as_ref();
    let bytes = file::read(path)?;
    let (stored, metadata) = file::parse(path, &bytes)?;
    let place = path.display().to_string();
    let names = check_all(model, &stored, &place, &|_| false)?;
    let averages = averages(&stored);
    if let Some(average) = &average {
        check_average(*average, &averages, &place)?;
    }
    let state = state(&stored, &names, &place)?;
    // The last check, which is the optimizer's.
    let restored = optimizer.restore(model, state);
    restored.map_err(|err| in_file(err, &place))?;
    model::set(model, &stored)?;
    if let Some(average) = average {
        model::set(average, &averages)?;
    }
    Ok(metadata)
}

/// Loads the moving average in a training checkpoint into a model, and returns the metadata. On an
/// error the model is as it was.
///
/// # Errors
/// As [`load`](super::load), for the tensors whose names begin with `ema.`.
pub fn load_average<M, E, D>(path: impl AsRef<Path>, model: &mut M) -> Result<Metadata>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    let path = path.as_ref();
    let bytes = file::read(path)?;
    let (stored, metadata) = file::parse(path, &bytes)?;
    let averages = averages(&stored);
    check_average(model, &averages, &path.display().to_string())?;
    model::set(model, &averages)?;
    Ok(metadata)
}

/// The tensors of the moving average, by their names in the model.
fn averages<'a>(stored: &BTreeMap<String, Stored<'a>>) -> BTreeMap<String, Stored<'a>> {
    let averages = stored.iter().filter_map(|(name, stored)| {
        let name = name.strip_prefix(EMA)?;
        Some((name.to_owned(), stored.clone()))
    });
    averages.collect()
}

/// As [`check_all`], with the names that the file has.
fn check_average<M, E, D>(model: &M, averages: &BTreeMap<String, Stored>, place: &str) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    let found = check_all(model, averages, place, &|_| false).map(drop);
    found.map_err(|mut err| {
        if let Error::MissingTensor { name, .. }
        | Error::UnexpectedTensor { name, .. }
        | Error::TensorShape { name, .. }
        | Error::TensorDtype { name, .. }
        | Error::StoredValue { name, .. } = &mut err
        {
            name.insert_str(0, EMA);
        }
        err
    })
}

/// An optimizer's error about its state, with the file and the name that the tensor has there.
fn in_file(mut err: Error, file: &str) -> Error {
    if let Error::MissingTensor { place, name, .. }
    | Error::UnexpectedTensor { place, name, .. }
    | Error::TensorShape { place, name, .. } = &mut err
    {
        *place = file.to_owned();
        name.insert_str(0, OPTIMIZER);
    }
    err
}

/// The optimizer's tensors, which are those of `names` that no average has, put together by
/// parameter. The model's own tensors in `stored` have been checked.
fn state<E: StoredElement>(
    stored: &BTreeMap<String, Stored>,
    names: &[String],
    place: &str,
) -> Result<OptimizerState<E>> {
    let mut state = OptimizerState::default();
    for full_name in names.iter().filter(|name| !name.starts_with(EMA)) {
        let found = &stored[full_name];
        let parts = full_name.strip_prefix(OPTIMIZER);
        let parts = parts.and_then(|name| name.split_once('.'));
        let known = parts.and_then(|(kind, name)| Some((kind, name, stored.get(name)?)));
        let Some((kind, name, parameter)) = known else {
            return Err(Error::UnexpectedTensor {
                place: place.to_owned(),
                name: full_name.clone(),
                found: found.shape.clone(),
            });
        };
        if !state.parameters.contains_key(name) {
            let of_parameter = ParameterState {
                step: step(stored, name, place)?,
                shape: parameter.shape.clone(),
                buffers: BTreeMap::new(),
            };
            state.parameters.insert(name.to_owned(), of_parameter);
        }
        let Some(of_parameter) = state.parameters.get_mut(name) else {
            continue;
        };
        if kind != STEP {
            model::check_stored(place, full_name, found, E::DTYPE, &parameter.shape)?;
            let values = E::decode(&found.data);
            of_parameter.buffers.insert(kind.to_owned(), values);
        }
    }
    Ok(state)
}

/// The number of updates that the parameter `name` has had.
fn step(stored: &BTreeMap<String, Stored>, name: &str, place: &str) -> Result<u64> {
    let name = format!("{OPTIMIZER}{STEP}.{name}");
    let Some(found) = stored.get(&name) else {
        return Err(Error::MissingTensor {
            place: place.to_owned(),
            name,
            expected: Vec::new(),
        });
    };
    model::check_stored(place, &name, found, STEP_DTYPE, &[])?;
    let step = i64::from_le_bytes(found.data[..].try_into().unwrap_or([0xff; 8]));
    u64::try_from(step).map_err(|_| Error::StoredValue {
        place: place.to_owned(),
        name,
        value: step.to_string(),
        range: "at least 0",
    })
}
