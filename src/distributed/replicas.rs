//! Whether all ranks have the same network.

use dfdx::nn::TensorCollection;
use dfdx::tensor_ops::Device;
use xxhash_rust::xxh3::Xxh3;

use super::communicator::Communicator;
use crate::bridge::tensors::{for_each_part, for_each_part_mut, Part, PartMut};
use crate::bridge::Views;
use crate::error::Result;

/// Compares the weights of all ranks' models, by a hash.
///
/// # Errors
/// [`Error::Distributed`](crate::Error::Distributed) with the ranks whose weights are not rank 0's.
pub(crate) fn check_same_weights<M, D>(
    communicator: &Communicator,
    model: &M,
    when: &str,
) -> Result<()>
where
    M: TensorCollection<f32, D>,
    D: Device<f32> + Views<f32>,
{
    let mut hash = Xxh3::new();
    for_each_part(model, &mut |name, part| {
        if let Part::Weight(tensor) = part {
            hash.update(name.as_bytes());
            for value in tensor.elements() {
                hash.update(&value.to_le_bytes());
            }
        }
        Ok(())
    })?;
    let found = communicator.gather(hash.digest().to_le_bytes().to_vec())?;
    let others = found
        .iter()
        .enumerate()
        .filter(|(_, hash)| **hash != found[0]);
    let others: Vec<String> = others.map(|(rank, _)| rank.to_string()).collect();
    match others.is_empty() {
        true => Ok(()),
        false => Err(communicator.error(format!(
            "{when} the weights of rank {} are not those of rank 0",
            others.join(", "),
        ))),
    }
}

/// Makes the running statistics of a model the mean of all ranks'.
///
/// # Errors
/// As [`Communicator::sum`].
pub(crate) fn average_statistics<M, D>(communicator: &Communicator, model: &mut M) -> Result<()>
where
    M: TensorCollection<f32, D>,
    D: Device<f32> + Views<f32>,
{
    let mut all = Vec::new();
    for_each_part(model, &mut |_, part| {
        if let Part::Statistic(tensor) = part {
            all.extend(tensor.elements().into_iter().map(f64::from));
        }
        Ok(())
    })?;
    communicator.sum(&mut all)?;
    let ranks = communicator.size() as f64;
    let mut means = all.into_iter().map(|sum| (sum / ranks) as f32);
    for_each_part_mut(model, &mut |_, part| match part {
        PartMut::Statistic(tensor) => {
            let own = means.by_ref().take(tensor.len()).collect();
            tensor.set(own)
        }
        _ => Ok(()),
    })
}
