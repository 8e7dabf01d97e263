//! A model's tensors and scalars: reading them for a file, checking a file against them, setting
//! them from a file.

use std::collections::{BTreeMap, BTreeSet};

use dfdx::nn::{RecursiveWalker, ScalarOptions, TensorCollection, TensorOptions, TensorVisitor};
use dfdx::nn::{ViewTensorMut, ViewTensorName, ViewTensorRef};
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Gradients, Storage, Tensor};
use dfdx::tensor_ops::Device;
use num_traits::NumCast;

use super::element::StoredElement;
use super::file::{Entry, Stored};
use crate::error::{Error, Result};

/// The type of dfdx's stored scalars.
const SCALAR: safetensors::Dtype = safetensors::Dtype::F64;

/// The model's tensors, then its scalars as f64 of no dimensions, as dfdx stores them.
pub(super) fn entries<M, E, D>(model: &M) -> Result<Vec<Entry>>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Device<E>,
{
    let mut collect = Collect(Vec::new());
    M::iter_tensors(&mut RecursiveWalker {
        m: (model, String::new()),
        f: &mut collect,
    })?;
    Ok(collect.0)
}

struct Collect(Vec<Entry>);

impl<E: StoredElement, D: Device<E>> TensorVisitor<E, D> for Collect {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = Error;
    type E2 = E;
    type D2 = D;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, E, D>,
        (tensor, name): (&Tensor<S, E, D>, String),
    ) -> Result<Option<Tensor<S, E, D>>> {
        let mut data = Vec::new();
        E::encode(&tensor.as_vec(), &mut data);
        self.0.push(Entry {
            name,
            dtype: E::DTYPE,
            shape: tensor.shape().concrete().into(),
            data,
        });
        Ok(None)
    }

    fn visit_scalar<N: NumCast>(
        &mut self,
        _: ScalarOptions<N>,
        (scalar, name): (&N, String),
    ) -> Result<Option<N>> {
        let Some(value) = scalar.to_f64() else {
            return Err(Error::StoredValue {
                place: "model".to_owned(),
                name,
                value: format!("a {}", std::any::type_name::<N>()),
                range: "a value that f64 can hold",
            });
        };
        self.0.push(Entry {
            name,
            dtype: SCALAR,
            shape: Vec::new(),
            data: value.to_le_bytes().to_vec(),
        });
        Ok(None)
    }
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
    D: Device<E>,
{
    let mut check = Check {
        stored,
        place,
        names: BTreeSet::new(),
        missing: Vec::new(),
    };
    M::iter_tensors(&mut RecursiveWalker {
        m: (model, String::new()),
        f: &mut check,
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

impl<E: StoredElement, D: Device<E>> TensorVisitor<E, D> for Check<'_> {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = Error;
    type E2 = E;
    type D2 = D;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, E, D>,
        (tensor, name): (&Tensor<S, E, D>, String),
    ) -> Result<Option<Tensor<S, E, D>>> {
        self.find(&name, E::DTYPE, tensor.shape().concrete().into())?;
        Ok(None)
    }

    fn visit_scalar<N: NumCast>(
        &mut self,
        _: ScalarOptions<N>,
        (_, name): (&N, String),
    ) -> Result<Option<N>> {
        let Some(value) = self.find(&name, SCALAR, Vec::new())?.and_then(scalar) else {
            return Ok(None);
        };
        if N::from(value).is_none() {
            return Err(Error::StoredValue {
                place: self.place.to_owned(),
                name,
                value: value.to_string(),
                range: "a value of the model's type",
            });
        }
        Ok(None)
    }
}

/// The value of a stored scalar.
fn scalar(stored: &Stored) -> Option<f64> {
    f64::decode(stored.data).first().copied()
}

/// Sets every tensor and scalar of the model that `stored` has. [`check`] comes before.
pub(super) fn set<M, E, D>(model: &mut M, stored: &BTreeMap<String, Stored>) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Device<E>,
{
    M::iter_tensors(&mut RecursiveWalker {
        m: (model, String::new()),
        f: &mut Set(stored),
    })?;
    Ok(())
}

struct Set<'a>(&'a BTreeMap<String, Stored<'a>>);

impl<E: StoredElement, D: Device<E>> TensorVisitor<E, D> for Set<'_> {
    type Viewer = (ViewTensorMut, ViewTensorName);
    type Err = Error;
    type E2 = E;
    type D2 = D;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, E, D>,
        (tensor, name): (&mut Tensor<S, E, D>, String),
    ) -> Result<Option<Tensor<S, E, D>>> {
        if let Some(stored) = self.0.get(&name) {
            assign(tensor, stored.data)?;
        }
        Ok(None)
    }

    fn visit_scalar<N: NumCast>(
        &mut self,
        _: ScalarOptions<N>,
        (target, name): (&mut N, String),
    ) -> Result<Option<N>> {
        if let Some(value) = self.0.get(&name).and_then(scalar).and_then(N::from) {
            *target = value;
        }
        Ok(None)
    }
}

/// Sets the elements of `tensor` from their bytes in row-major order.
fn assign<S: Shape, E: StoredElement, D: Device<E>>(
    tensor: &mut Tensor<S, E, D>,
    bytes: &[u8],
) -> Result<()> {
    let elements = E::decode(bytes);
    // dfdx copies into the storage, whatever the view of it. A gradient has the storage's length,
    // and reading the elements back tells whether the view changes their order.
    let mut probe = Gradients::leaky();
    let storage = probe.get_or_alloc_mut(tensor).map_err(Error::device)?;
    if storage_len::<E, D>(tensor.device(), storage) == elements.len() {
        tensor.copy_from(&elements);
        let mut read_back = Vec::new();
        E::encode(&tensor.as_vec(), &mut read_back);
        if read_back == bytes {
            return Ok(());
        }
    }
    // A view becomes a tensor of its own, with a new id.
    let dev = tensor.device().clone();
    *tensor = dev
        .try_tensor_from_vec(elements, *tensor.shape())
        .map_err(Error::device)?;
    Ok(())
}

fn storage_len<E, D: Storage<E>>(dev: &D, storage: &D::Vec) -> usize {
    dev.len(storage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::*;

    #[test]
    fn views_are_set_in_row_major_order() {
        let dev = Cpu::default();
        let mut bytes = Vec::new();
        f32::encode(&[1.0, f32::NAN, 3.0, 4.0, 5.0, 6.0], &mut bytes);
        let check = |t: Tensor<Rank2<3, 2>, f32, Cpu>| {
            let mut t = t;
            assign(&mut t, &bytes).unwrap();
            let mut found = Vec::new();
            f32::encode(&t.as_vec(), &mut found);
            assert_eq!(found, bytes);
        };
        check(dev.zeros());
        check(dev.zeros::<Rank2<2, 3>>().permute());
        check(dev.zeros::<Rank1<2>>().broadcast());
    }
}
