//! Group normalisation of images, with the timestep's shift before it and the SiLU after it in a
//! network.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Const, Dim, HasShape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::{contiguous, Buffer, Hidden, ParameterPair, PooledTensor};
use crate::error::{Error, Result};
use crate::kernels::args::group_norm as kernel;
pub use crate::kernels::args::group_norm::{Activation, GroupNormOp};
use crate::kernels::args::ImageDims;
use crate::profile::timed;

const OP: &str = "group_norm";

/// The number of groups, which the tensors' shapes do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups<const G: usize>;

/// One number a channel.
type PerChannel<C, E, D> = Tensor<(C,), E, D>;

/// Group normalisation ([Wu and He, 2018](https://arxiv.org/abs/1803.08494), Eqs. 1 to 3, 6 and 7):
///
/// y = f(weight_c (x' - mean_{b,g}) / sqrt(var_{b,g} + eps) + bias_c), with f the op's activation.
///
/// x' is x, or with a `shift` x + shift, one number for each image and channel, as the residual blocks of
/// DDPM's U-Net add the projected embedding of the timestep before their second norm ([Ho et al.,
/// 2020](https://arxiv.org/abs/2006.11239), appendix B). A shift that has no tape gets an empty one by
/// [`retaped`](Tensor::retaped).
///
/// The C channels fall into `G` groups of neighbours. The mean and the biased variance are over the
/// C / G * H * W elements of a group of one image, in training as in inference. For the backward
/// pass x, which the operation before it made, is kept, and two numbers an image and group; with SiLU
/// the output too, which the operation after it usually keeps anyway.
///
/// - `x`, and the result: (B, C, H, W)
/// - `shift`: (B, C)
/// - `weight`, `bias`: (C)
///
/// That `G` divides C is checked at compile time.
///
/// # Errors
/// [`Error::Shape`] if the shift is of another number of images; [`Error::Parameter`] if eps lies outside
/// its range; [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::group_norm::{try_group_norm, Activation, GroupNormOp, Groups};
///
/// let dev = Cpu::default();
/// let x: Tensor<Rank4<2, 6, 8, 8>, f32, _> = dev.sample_normal();
/// let (weight, bias) = (dev.ones(), dev.zeros());
/// let op = GroupNormOp { activation: Activation::SiLU, ..Default::default() };
/// let y = try_group_norm(x.leaky_trace(), None, &weight, &bias, Groups::<3>, op)?;
/// let grads = y.square().mean().backward();
/// assert!(grads.get(&weight).array().iter().all(|g| g.abs() > 0.0));
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_group_norm<const G: usize, const C: usize, B: Dim, H: Dim, W: Dim, E, D, T>(
    x: Tensor<(B, Const<C>, H, W), E, D, T>,
    shift: Option<Tensor<(B, Const<C>), E, D, T>>,
    weight: &Tensor<(Const<C>,), E, D>,
    bias: &Tensor<(Const<C>,), E, D>,
    groups: Groups<G>,
    op: GroupNormOp,
) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let shift = shift.map(Hidden::from);
    group_norm_hidden(x.into(), shift, weight, bias, groups, op).and_then(Hidden::into_tensor)
}

/// [`try_group_norm`] between operations of this crate.
pub(crate) fn group_norm_hidden<const G: usize, const C: usize, B: Dim, H: Dim, W: Dim, E, D, T>(
    x: Hidden<(B, Const<C>, H, W), E, D, T>,
    shift: Option<Hidden<(B, Const<C>), E, D, T>>,
    weight: &PerChannel<Const<C>, E, D>,
    bias: &PerChannel<Const<C>, E, D>,
    _: Groups<G>,
    op: GroupNormOp,
) -> Result<Hidden<(B, Const<C>, H, W), E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    const {
        assert!(
            G > 0 && C / G * G == C,
            "the groups have to divide the channels"
        )
    };
    let (x, tape) = x.split()?;
    let shape @ (b, c, h, w) = *x.tensor.shape();
    let (shift, tape) = Hidden::split_option(shift, tape)?;
    if let Some(shift) = shift.as_ref().filter(|s| s.tensor.shape().0 != b) {
        return Err(Error::shape(OP, "shift", (b, c), shift.tensor.shape()));
    }
    op.check()?;
    let dims = ImageDims {
        batch: b.size(),
        channels: C,
        plane: h.size() * w.size(),
    };
    let dev = x.tensor.device().clone();
    let mut y = x.output(shape)?;
    let mut mean = PooledTensor::take(&dev, (dims.batch, G))?;
    let mut inv_std = PooledTensor::take(&dev, (dims.batch, G))?;
    let (weight, tape) = contiguous(weight, tape)?;
    let (bias, tape) = contiguous(bias, tape)?;
    let input = kernel::Input {
        x: x.tensor.view()?,
        shift: shift
            .as_ref()
            .map(|shift| shift.tensor.view())
            .transpose()?,
        weight: D::view(OP, &weight)?,
        bias: D::view(OP, &bias)?,
    };
    let saved = [mean.view_mut()?, inv_std.view_mut()?];
    let to = y.view_mut()?;
    timed("group norm, forward", || {
        D::group_norm_forward(&op, dims, G, input, to, saved)
    })?;

    // Of SiLU alone, and the convolution after it keeps it too.
    let y_kept = (op.activation == Activation::SiLU).then(|| y.clone());
    let params_to = ParameterPair::of::<_, T>(OP, &weight, &bias)?;
    let feeds_back = x.grad.is_wanted() || shift.as_ref().is_some_and(|s| s.grad.is_wanted());
    let is_wanted = params_to.is_trained() || feeds_back;
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        let (x, dx_to) = (x.tensor, x.grad);
        let take = |len| Buffer::take(&dev, len).map_err(D::device_error);
        let mut dshift = match &shift {
            Some(_) => Some(take(dims.batch * dims.channels)?),
            None => None,
        };
        let mut importance = dx_to
            .importance_room(dims.channels)
            .map_err(D::device_error)?;
        params_to.write(&dev, grads, |grads, params| {
            dx_to.write_anyway(grads, |dx, fill| {
                let saved = kernel::Saved {
                    input: kernel::Input {
                        x: x.view()?,
                        shift: shift
                            .as_ref()
                            .map(|shift| shift.tensor.view())
                            .transpose()?,
                        weight: D::view(OP, &weight)?,
                        bias: D::view(OP, &bias)?,
                    },
                    y: y_kept.as_ref().map(PooledTensor::view).transpose()?,
                    mean: mean.view()?,
                    inv_std: inv_std.view()?,
                };
                let to = kernel::Grads {
                    importance: importance.as_mut().map(D::importance_mut),
                    dshift: dshift.as_mut().map(Buffer::view_mut),
                };
                timed("group norm, backward", || {
                    D::group_norm_backward(dims, G, saved, dy.view(), (dx, fill), to, params)
                })
            })
        })?;
        if let Some(importance) = importance {
            dx_to.put_importance(importance);
        }
        if let (Some(shift), Some(dshift)) = (shift, dshift) {
            shift.grad.add(grads, dshift)?;
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests;
