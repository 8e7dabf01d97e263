//! Layer normalisation over the channels of each position.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Const, Dim, HasShape, Shape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::{contiguous, Hidden, ParameterPair, PooledTensor};
use crate::error::Result;
pub use crate::kernels::args::layer_norm::LayerNormOp;
use crate::kernels::args::layer_norm::Saved;
use crate::kernels::args::ImageDims;
use crate::profile::timed;

const OP: &str = "layer_norm";

/// A shape with `C` channels: (B, C), or of images (B, C, H, W).
pub trait Channels<const C: usize>: Shape {
    /// B, C and H W.
    fn image_dims(&self) -> ImageDims;
}

impl<const C: usize, B: Dim> Channels<C> for (B, Const<C>) {
    fn image_dims(&self) -> ImageDims {
        ImageDims {
            batch: self.0.size(),
            channels: C,
            plane: 1,
        }
    }
}

impl<const C: usize, B: Dim, H: Dim, W: Dim> Channels<C> for (B, Const<C>, H, W) {
    fn image_dims(&self) -> ImageDims {
        ImageDims {
            batch: self.0.size(),
            channels: C,
            plane: self.2.size() * self.3.size(),
        }
    }
}

/// Layer normalisation ([Ba et al., 2016](https://arxiv.org/abs/1607.06450)) over the C channels of each
/// position of each image, as transformers have it, whose tokens are the positions:
///
/// y_{b,c,p} = weight_c (x_{b,c,p} - mean_{b,p}) / sqrt(var_{b,p} + eps) + bias_c, with the biased variance.
///
/// - `x`, and the result: (B, C, H, W) or (B, C)
/// - `weight`, `bias`: (C)
///
/// The backward pass keeps x and two numbers a position.
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) if eps lies outside its range;
/// [`Error::Device`](crate::Error::Device).
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::layer_norm::{try_layer_norm, LayerNormOp};
///
/// let dev = Cpu::default();
/// let x = dev.tensor([[1.0f32, 2.0, 3.0], [5.0, 5.0, 5.0]]);
/// let (weight, bias) = (dev.ones(), dev.zeros());
/// let y = try_layer_norm(x, &weight, &bias, LayerNormOp::default())?.array();
/// assert!((y[0][2] - 1.5f32.sqrt()).abs() < 1e-5);
/// assert_eq!(y[1], [0.0; 3]);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_layer_norm<const C: usize, S: Channels<C>, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: Tensor<S, E, D, T>,
    weight: &Tensor<(Const<C>,), E, D>,
    bias: &Tensor<(Const<C>,), E, D>,
    op: LayerNormOp,
) -> Result<Tensor<S, E, D, T>> {
    layer_norm_hidden(x.into(), weight, bias, op).and_then(Hidden::into_tensor)
}

/// [`try_layer_norm`] of a hidden tensor.
pub(crate) fn layer_norm_hidden<
    const C: usize,
    S: Channels<C>,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
>(
    x: Hidden<S, E, D, T>,
    weight: &Tensor<(Const<C>,), E, D>,
    bias: &Tensor<(Const<C>,), E, D>,
    op: LayerNormOp,
) -> Result<Hidden<S, E, D, T>> {
    op.check()?;
    let dims = x.shape().image_dims();
    let (x, tape) = x.split()?;
    let (weight, tape) = contiguous(weight, tape)?;
    let (bias, tape) = contiguous(bias, tape)?;
    let dev = x.tensor.device().clone();
    let mut y = x.output(*x.tensor.shape())?;
    let mut mean = PooledTensor::take(&dev, (dims.batch, dims.plane))?;
    let mut inv_std = PooledTensor::take(&dev, (dims.batch, dims.plane))?;
    timed("layer norm, forward", || {
        let (x, weight, bias) = (x.tensor.view()?, D::view(OP, &weight)?, D::view(OP, &bias)?);
        let saved = [mean.view_mut()?, inv_std.view_mut()?];
        D::layer_norm_forward(&op, dims, x, weight, bias, y.view_mut()?, saved)
    })?;

    let params_to = ParameterPair::of::<_, T>(OP, &weight, &bias)?;
    let is_wanted = params_to.is_trained() || x.grad.is_wanted();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        params_to.write(&dev, grads, |grads, to| {
            x.grad.write_anyway(grads, |dx, fill| {
                timed("layer norm, backward", || {
                    let saved = Saved {
                        x: x.tensor.view()?,
                        weight: D::view(OP, &weight)?,
                        mean: mean.view()?,
                        inv_std: inv_std.view()?,
                    };
                    D::layer_norm_backward(dims, saved, dy.view(), (dx, fill), to)
                })
            })
        })
    }))
}

#[cfg(test)]
mod tests;
