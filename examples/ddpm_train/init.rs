//! Weights to begin with.

use std::path::Path;

use common::ddpm::{Checkpoint, Process, UNet};
use ssprop::checkpoint;
use ssprop::prelude::*;
use ssprop::{Backend, Error};

/// What a network without classes has not, and begins as zeros.
const CLASS_EMBEDDING: &str = "label_emb.weight";

/// Takes over the weights of a model.
///
/// # Errors
/// If they are another network's, or were trained on another diffusion; for a training run's checkpoint,
/// beside which there is the model.
pub fn take_over<M, D>(
    path: &Path,
    net: &mut M,
    unet: UNet,
    process: &Process,
) -> ssprop::Result<()>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
{
    let found = Checkpoint::open(path)?;
    if found.unet != unet || found.process != *process {
        let range = "a file of the same network, timesteps, schedule and parameterization";
        return Err(Error::parameter("--init", found, range));
    }
    if found.is_average() {
        let range = "a model (model.safetensors beside a run's checkpoint is its moving average)";
        return Err(Error::parameter("--init", path.display(), range));
    }
    let partial = checkpoint::load_partial(path, net)?;
    let missing = partial.missing.iter();
    let mut others = missing.filter(|name| *name != CLASS_EMBEDDING);
    if let Some(name) = others.next().or(partial.unexpected.first()) {
        let value = format_args!("{} (`{name}`)", path.display());
        let range = "a file of the network's tensors, but for the class embedding (--classes)";
        return Err(Error::parameter("--init", value, range));
    }
    Ok(())
}
