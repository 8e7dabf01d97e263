//! One pass of a network over images on the host.

use dfdx::shapes::Const;
use dfdx::tensor::NoneTape;

use super::model::Timesteps;
use crate::backend::Backend;
use crate::bridge::{upload, values};
use crate::error::{Error, Result};
use crate::train::Images;

/// What a network, called by `forward`, answers of all images at timestep t.
pub(super) fn predict<const C: usize, const H: usize, const W: usize, D: Backend<f32>>(
    dev: &D,
    x: &[f32],
    t: usize,
    forward: impl FnOnce(
        Images<C, H, W, D, NoneTape>,
        Timesteps<D>,
    ) -> Result<Images<C, H, W, D, NoneTape>>,
) -> Result<Vec<f32>> {
    let images = x.len() / (C * H * W).max(1);
    let x_t = upload(dev, (images, Const, Const, Const), x)?;
    let t = upload(dev, (images,), &vec![t as f32; images])?;
    let output = values(&forward(x_t, t)?);
    if output.len() != x.len() {
        let what = "elements of the network's output";
        return Err(Error::shape("sample", what, x.len(), output.len()));
    }
    Ok(output)
}
