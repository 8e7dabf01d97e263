//! A model's tensors and scalars: reading them for a file, checking a file against them, setting
//! them from a file.

use std::collections::{BTreeMap, BTreeSet};

use dfdx::nn::TensorCollection;

use super::element::StoredElement;
use super::file::{Entry, Stored};
use super::foreign::Expected;
use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, for_each_part_mut, Part, PartMut};
use crate::error::{Error, Result};

/// The type of dfdx's stored scalars.
const SCALAR: safetensors::Dtype = safetensors::Dtype::F64;

/// The model's tensors, and its scalars as f64 of no dimensions, as dfdx stores them.
pub(super) fn entries<M, E, D>(model: &M) -> Result<Vec<Entry>>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    collect(model, true)
}

/// The model's tensors.
pub(super) fn tensors<M, E, D>(model: &M) -> Result<Vec<Entry>>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    collect(model, false)
}

fn collect<M, E, D>(model: &M, with_numbers: bool) -> Result<Vec<Entry>>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    let mut entries = Vec::new();
    for_each_part::<_, E, D>(model, &mut |name, part| {
        entries.push(match part {
            Part::Weight(tensor) | Part::Statistic(tensor) => {
                let mut data = Vec::new();
                E::encode(&tensor.elements(), &mut data);
                Entry {
                    name,
                    dtype: E::DTYPE,
                    shape: tensor.sizes(),
                    data,
                }
            }
            Part::Number(_) if !with_numbers => return Ok(()),
            Part::Number(number) => match number.value() {
                Some(value) => Entry {
                    name,
                    dtype: SCALAR,
                    shape: Vec::new(),
                    data: value.to_le_bytes().to_vec(),
                },
                None => {
                    return Err(Error::StoredValue {
                        place: "model".to_owned(),
                        name,
                        value: format!("a {}", number.type_name()),
                        range: "a value that f64 can hold",
                    })
                }
            },
        });
        Ok(())
    })?;
    Ok(entries)
}

/// Names and shapes of the model's tensors and numbers, in its order.
pub(super) fn expected<M, E, D>(model: &M) -> Result<Vec<Expected>>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    let mut expected = Vec::new();
    for_each_part::<_, E, D>(model, &mut |name, part| {
        let (shape, is_number) = match part {
            Part::Weight(tensor) | Part::Statistic(tensor) => (tensor.sizes(), false),
            Part::Number(_) => (Vec::new(), true),
        };
        expected.push(Expected {
            name,
            shape,
            is_number,
        });
        Ok(())
    })?;
    Ok(expected)
}

/// What a file and a model do not have in common.
#[derive(Default)]
pub(super) struct Differences {
    /// Name and shape of what the model has and the file has not, in the model's order.
    pub(super) missing: Vec<(String, Vec<usize>)>,
    /// Name and shape of what the file has and the model has not.
    pub(super) unexpected: Vec<(String, Vec<usize>)>,
}

/// Checks the types, shapes and values in `stored` that the model has a counterpart for.
pub(super) fn check<M, E, D>(
    model: &M,
    stored: &BTreeMap<String, Stored>,
    place: &str,
) -> Result<Differences>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    let mut check = Check {
        stored,
        place,
        names: BTreeSet::new(),
        missing: Vec::new(),
    };
    for_each_part::<_, E, D>(model, &mut |name, part| match part {
        Part::Weight(tensor) | Part::Statistic(tensor) => {
            check.find(&name, E::DTYPE, tensor.sizes()).map(drop)
        }
        Part::Number(number) => match check.find(&name, SCALAR, Vec::new())?.and_then(scalar) {
            Some(value) if !number.can_be(value) => Err(Error::StoredValue {
                place: place.to_owned(),
                name,
                value: value.to_string(),
                range: "a value of the model's type",
            }),
            _ => Ok(()),
        },
    })?;
    let unexpected = stored
        .iter()
        .filter(|(name, _)| !check.names.contains(*name))
        .map(|(name, stored)| (name.clone(), stored.shape.clone()))
        .collect();
    Ok(Differences {
        missing: check.missing,
        unexpected,
    })
}

/// An error unless `stored` has this type and shape.
pub(super) fn check_stored(
    place: &str,
    name: &str,
    stored: &Stored,
    dtype: safetensors::Dtype,
    shape: &[usize],
) -> Result<()> {
    let (place, name) = (place.to_owned(), name.to_owned());
    if stored.dtype != dtype {
        return Err(Error::TensorDtype {
            place,
            name,
            expected: format!("{dtype} of shape {shape:?}"),
            found: format!("{} of shape {:?}", stored.dtype, stored.shape),
        });
    }
    if stored.shape != shape {
        return Err(Error::TensorShape {
            place,
            name,
            expected: shape.to_vec(),
            found: stored.shape.clone(),
            note: "".into(),
        });
    }
    Ok(())
}

struct Check<'a> {
    stored: &'a BTreeMap<String, Stored<'a>>,
    place: &'a str,
    names: BTreeSet<String>,
    missing: Vec<(String, Vec<usize>)>,
}

impl Check<'_> {
    /// The stored tensor of this name, if there is one.
    fn find(
        &mut self,
        name: &str,
        dtype: safetensors::Dtype,
        shape: Vec<usize>,
    ) -> Result<Option<&Stored<'_>>> {
        if !self.names.insert(name.to_owned()) {
            let name = name.to_owned();
            return Err(Error::DuplicateName { name });
        }
        let Some(stored) = self.stored.get(name) else {
            self.missing.push((name.to_owned(), shape));
            return Ok(None);
        };
        check_stored(self.place, name, stored, dtype, &shape)?;
        Ok(Some(stored))
    }
}

/// The value of a stored scalar.
fn scalar(stored: &Stored) -> Option<f64> {
    f64::decode(&stored.data).first().copied()
}

/// Sets every tensor and scalar of the model that `stored` has. [`check`] comes before.
pub(super) fn set<M, E, D>(model: &mut M, stored: &BTreeMap<String, Stored>) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    for_each_part_mut::<_, E, D>(model, &mut |name, part| {
        let Some(stored) = stored.get(&name) else {
            return Ok(());
        };
        match part {
            PartMut::Weight(tensor) | PartMut::Statistic(tensor) => {
                tensor.set(E::decode(&stored.data))
            }
            PartMut::Number(number) => {
                if let Some(value) = scalar(stored) {
                    number.set(value);
                }
                Ok(())
            }
        }
    })
}
