//! A model together with the state of its optimizer.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::Backend;
use dfdx::nn::TensorCollection;

use super::element::StoredElement;
use super::file::{self, Entry, Stored};
use super::{check_all, model, Metadata, EMA};
use crate::error::{Error, Result};
use crate::optim::{Adam, AdamState, ParameterState};

const STEP: &str = "optimizer.step.";
const EXP_AVG: &str = "optimizer.exp_avg.";
const EXP_AVG_SQ: &str = "optimizer.exp_avg_sq.";
const STEP_DTYPE: safetensors::Dtype = safetensors::Dtype::I64;

/// Saves a model, the state of its optimizer and the metadata in one file, from which training can
/// go on bit for bit. The optimizer's hyperparameters are not saved.
///
/// # Errors
/// As [`save`](super::save) and [`Adam::state`].
pub fn save_training<M, E, D>(
    path: impl AsRef<Path>,
    model: &M,
    optimizer: &Adam<M, E, D>,
    metadata: &Metadata,
) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    save_training_with(path, model, optimizer, None, metadata)
}

/// [`save_training`] with a moving average of the model, under names that begin with `ema.`.
pub(crate) fn save_training_with<M, E, D>(
    path: impl AsRef<Path>,
    model: &M,
    optimizer: &Adam<M, E, D>,
    average: Option<&M>,
    metadata: &Metadata,
) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
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
    for (name, state) in optimizer.state(model)?.parameters {
        let step = i64::try_from(state.step).map_err(|_| Error::StoredValue {
            place: path.display().to_string(),
            name: format!("{STEP}{name}"),
            value: state.step.to_string(),
            range: "at most 2^63 - 1",
        })?;
        entries.push(Entry {
            name: format!("{STEP}{name}"),
            dtype: STEP_DTYPE,
            shape: Vec::new(),
            data: step.to_le_bytes().to_vec(),
        });
        for (prefix, moment) in [(EXP_AVG, state.exp_avg), (EXP_AVG_SQ, state.exp_avg_sq)] {
            let mut data = Vec::new();
            E::encode(&moment, &mut data);
            entries.push(Entry {
                name: format!("{prefix}{name}"),
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
pub fn load_training<M, E, D>(
    path: impl AsRef<Path>,
    model: &mut M,
    optimizer: &mut Adam<M, E, D>,
) -> Result<Metadata>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    load_training_with(path, model, optimizer, None)
}

/// [`load_training`] with a moving average of the model, which the file has to have then.
pub(crate) fn load_training_with<M, E, D>(
    path: impl AsRef<Path>,
    model: &mut M,
    optimizer: &mut Adam<M, E, D>,
    average: Option<&mut M>,
) -> Result<Metadata>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
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
    let prepared = optimizer
        .prepare(model, state, &place)
        .map_err(with_stored_name)?;
    model::set(model, &stored)?;
    if let Some(average) = average {
        model::set(average, &averages)?;
    }
    optimizer.commit(prepared);
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

/// The optimizer names parameters; a file's reader looks for the tensors that belong to them.
fn with_stored_name(mut err: Error) -> Error {
    if let Error::MissingTensor { name, .. } | Error::UnexpectedTensor { name, .. } = &mut err {
        name.insert_str(0, EXP_AVG);
    }
    err
}

/// The optimizer's tensors, which are those of `names` that no average has, put together by
/// parameter. The model's own tensors
/// in `stored` have been checked.
fn state<E: StoredElement>(
    stored: &BTreeMap<String, Stored>,
    names: &[String],
    place: &str,
) -> Result<AdamState<E>> {
    let mut parameters = BTreeMap::new();
    for full_name in names.iter().filter(|name| !name.starts_with(EMA)) {
        let found = &stored[full_name];
        let parameter = [STEP, EXP_AVG, EXP_AVG_SQ]
            .iter()
            .find_map(|prefix| full_name.strip_prefix(prefix))
            .and_then(|name| Some((name, stored.get(name)?)));
        let Some((name, parameter)) = parameter else {
            return Err(Error::UnexpectedTensor {
                place: place.to_owned(),
                name: full_name.clone(),
                found: found.shape.clone(),
            });
        };
        if !parameters.contains_key(name) {
            let state = parameter_state(stored, name, &parameter.shape, place)?;
            parameters.insert(name.to_owned(), state);
        }
    }
    Ok(AdamState { parameters })
}

/// The state of the parameter `name`, which has this shape.
fn parameter_state<E: StoredElement>(
    stored: &BTreeMap<String, Stored>,
    name: &str,
    shape: &[usize],
    place: &str,
) -> Result<ParameterState<E>> {
    let get = |prefix: &str, dtype, shape: &[usize]| {
        let name = format!("{prefix}{name}");
        let Some(found) = stored.get(&name) else {
            return Err(Error::MissingTensor {
                place: place.to_owned(),
                name,
                expected: shape.to_vec(),
            });
        };
        model::check_stored(place, &name, found, dtype, shape)?;
        Ok(&found.data[..])
    };
    let exp_avg = get(EXP_AVG, E::DTYPE, shape)?;
    let exp_avg_sq = get(EXP_AVG_SQ, E::DTYPE, shape)?;
    let step = get(STEP, STEP_DTYPE, &[])?;
    let step = i64::from_le_bytes(step.try_into().unwrap_or([0xff; 8]));
    let step = u64::try_from(step).map_err(|_| Error::StoredValue {
        place: place.to_owned(),
        name: format!("{STEP}{name}"),
        value: step.to_string(),
        range: "at least 0",
    })?;
    Ok(ParameterState {
        step,
        shape: shape.to_vec(),
        exp_avg: E::decode(exp_avg),
        exp_avg_sq: E::decode(exp_avg_sq),
    })
}
