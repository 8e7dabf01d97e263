//! Batch normalisation of images, with the residual sum and the ReLU that follow it in a network.

use std::sync::Arc;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Dim, HasShape};
use dfdx::tensor::{NoneTape, Storage, Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::exchange::{self, Exchange};
use crate::bridge::{
    contiguous, Buffer, Fill, GradTarget, Hidden, Input, ParameterPair, PooledTensor, ViewMut,
};
use crate::error::{Error, Result};
use crate::kernels::args::batch_norm as kernel;
use crate::kernels::args::batch_norm::Statistics;
pub use crate::kernels::args::batch_norm::{Activation, BatchNorm2DOp};
use crate::kernels::args::ImageDims;
use crate::profile::timed;

const OP: &str = "batch_norm2d";

/// The other ranks whose batches are normalised with this one's, if there are any.
type Ranks = Option<Arc<dyn Exchange>>;

/// Calls `f` with how a kernel sees the ranks.
fn with_ranks<R>(ranks: &Ranks, f: impl FnOnce(Option<kernel::AllRanks<'_>>) -> R) -> R {
    let Some(exchange) = ranks else {
        return f(None);
    };
    f(Some(kernel::AllRanks {
        counts: exchange.share() > 0.0,
        sum: &mut |values| {
            let caller = |err| ssprop_kernels::Error::Caller(Box::new(err));
            exchange.sum(values).map_err(caller)
        },
    }))
}

/// One number a channel.
type PerChannel<C, E, D> = Tensor<(C,), E, D>;

/// Which statistics normalise: the batch's (training) or the running ones (evaluation).
#[derive(Debug)]
pub enum Mode<'a, C: Dim, E: Dtype, D: Storage<E>> {
    /// The batch's own, with the gradient through them. The running ones (C) move towards them.
    Train {
        /// The running mean.
        mean: &'a mut Tensor<(C,), E, D>,
        /// The running unbiased variance.
        var: &'a mut Tensor<(C,), E, D>,
    },
    /// The running ones, which are constants to the gradient.
    Eval {
        /// The running mean.
        mean: &'a Tensor<(C,), E, D>,
        /// The running unbiased variance.
        var: &'a Tensor<(C,), E, D>,
    },
}

/// Batch normalisation ([Ioffe and Szegedy, 2015](https://arxiv.org/abs/1502.03167), algorithms 1
/// and 2), and the sum and activation that end a ResNet's blocks:
///
/// y = f(weight (x - mean) / sqrt(var + eps) + bias + residual), with f the op's activation.
///
/// Without a `residual` there is no sum. One that has no tape gets an empty one by
/// [`retaped`](Tensor::retaped).
///
/// In training the mean and the biased variance are over the N = B H W elements of a channel. The
/// running statistics become (1 - momentum) running + momentum batch, with the unbiased variance, as
/// PyTorch's do. For the backward pass x, which the operation before it made, is kept, and two
/// numbers a channel; with a residual and ReLU the output too. Synchronized, in a distributed training, the N
/// elements are those of all ranks.
///
/// - `x`, `residual`, and the result: (B, C, H, W)
/// - `weight`, `bias`, the running statistics: (C)
///
/// # Errors
/// [`Error::Shape`] if the shapes do not agree, or in training if N < 2, where there is no variance;
/// [`Error::Parameter`] if eps or momentum lies outside its range; [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::batch_norm::{try_batch_norm2d, BatchNorm2DOp, Mode};
///
/// let dev = Cpu::default();
/// let x: Tensor<Rank4<2, 6, 8, 8>, f32, _> = dev.sample_normal();
/// let (weight, bias, mean, var) = (dev.ones(), dev.zeros(), dev.zeros(), dev.ones());
/// let mode = Mode::Eval { mean: &mean, var: &var };
/// let (traced, residual) = (x.leaky_trace(), x.retaped());
/// let y = try_batch_norm2d(traced, Some(residual), &weight, &bias, mode, BatchNorm2DOp::default())?;
/// let dx = y.sum().backward().get(&x).as_vec();
/// assert!(dx.iter().all(|g| (g - 2.0).abs() < 1e-4));
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_batch_norm2d<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T>(
    x: Tensor<(B, C, H, W), E, D, T>,
    residual: Option<Tensor<(B, C, H, W), E, D, T>>,
    weight: &Tensor<(C,), E, D>,
    bias: &Tensor<(C,), E, D>,
    mode: Mode<'_, C, E, D>,
    op: BatchNorm2DOp,
) -> Result<Tensor<(B, C, H, W), E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let residual = residual.map(Hidden::from);
    batch_norm2d_hidden(x.into(), residual, weight, bias, mode, op).and_then(Hidden::into_tensor)
}

/// [`try_batch_norm2d`] between operations of this crate.
pub(crate) fn batch_norm2d_hidden<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T>(
    x: Hidden<(B, C, H, W), E, D, T>,
    residual: Option<Hidden<(B, C, H, W), E, D, T>>,
    weight: &PerChannel<C, E, D>,
    bias: &PerChannel<C, E, D>,
    mode: Mode<'_, C, E, D>,
    op: BatchNorm2DOp,
) -> Result<Hidden<(B, C, H, W), E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let (x, tape) = x.split()?;
    let (residual, tape) = Hidden::split_option(residual, tape)?;
    let shape @ (b, c, h, w) = *x.tensor.shape();
    let mut ranks: Ranks = None;
    if op.synchronized && matches!(mode, Mode::Train { .. }) {
        ranks = exchange::current();
    }
    check(
        &op,
        &shape,
        residual.as_ref(),
        weight,
        bias,
        &mode,
        ranks.is_some(),
    )?;
    let dims = ImageDims {
        batch: b.size(),
        channels: c.size(),
        plane: h.size() * w.size(),
    };

    let dev = x.tensor.device().clone();
    let (weight, tape) = contiguous(weight, tape)?;
    let (bias, tape) = contiguous(bias, tape)?;
    let mut y = x.output(shape)?;
    let mut batch_mean = PooledTensor::take(&dev, (c,))?;
    let mut inv_std = PooledTensor::take(&dev, (c,))?;
    // Every view first: nothing may fail once the running statistics begin to move.
    let input = kernel::Input {
        x: x.tensor.view()?,
        residual: residual.as_ref().map(|r| r.tensor.view()).transpose()?,
        weight: D::view(OP, &weight)?,
        bias: D::view(OP, &bias)?,
    };
    let (to, saved_inv_std) = (y.view_mut()?, inv_std.view_mut()?);
    let (statistics, mean) = match mode {
        Mode::Train { mean, var } => {
            for running in [&mut *mean, &mut *var] {
                *running = contiguous(running, NoneTape)?.0;
            }
            let running = [D::view_mut(OP, mean)?, D::view_mut(OP, var)?];
            let saved = [batch_mean.view_mut()?, saved_inv_std];
            timed("batch norm, forward", || {
                with_ranks(&ranks, |ranks| {
                    D::batch_norm2d_train(&op, dims, input, running, to, saved, ranks)
                })
            })?;
            (Statistics::Batch, batch_mean)
        }
        Mode::Eval { mean, var } => {
            let (mean, NoneTape) = contiguous(mean, NoneTape)?;
            let (var, NoneTape) = contiguous(var, NoneTape)?;
            let running = [D::view(OP, &mean)?, D::view(OP, &var)?];
            timed("batch norm, forward", || {
                D::batch_norm2d_eval(&op, dims, input, running, to, saved_inv_std)
            })?;
            (Statistics::Running, PooledTensor::from_dfdx(mean))
        }
    };

    // Only the residual's gradient is needed, not its elements.
    let residual = residual.map(|residual| residual.grad);
    let y_kept = (residual.is_some() && op.activation == Activation::ReLU).then(|| y.clone());
    let params_to = ParameterPair::of::<_, T>(OP, &weight, &bias)?;
    let feeds_back = x.grad.is_wanted() || residual.as_ref().is_some_and(GradTarget::is_wanted);
    let is_wanted = params_to.is_trained() || feeds_back;
    Ok(Hidden::recorded(
        y,
        tape,
        is_wanted,
        move |mut dy, grads| {
            let (x, dx_to) = (x.tensor, x.grad);
            params_to.write(&dev, grads, |grads, params| {
                let mut importance = dx_to
                    .importance_room(dims.channels)
                    .map_err(D::device_error)?;
                let backward = |dy: &mut Buffer<E, D>, dx: Option<(ViewMut<'_, E, D>, Fill)>| {
                    let saved = kernel::Saved {
                        x: x.view()?,
                        y: y_kept.as_ref().map(PooledTensor::view).transpose()?,
                        weight: D::view(OP, &weight)?,
                        bias: D::view(OP, &bias)?,
                        mean: mean.view()?,
                        inv_std: inv_std.view()?,
                    };
                    let importance = importance.as_mut().map(D::importance_mut);
                    timed("batch norm, backward", || {
                        with_ranks(&ranks, |ranks| {
                            let dy = dy.view_mut();
                            D::batch_norm2d_backward(
                                &op, statistics, dims, saved, dy, dx, importance, params, ranks,
                            )
                        })
                    })
                };
                if residual.is_none() && (dx_to.is_empty_slot() || !dx_to.is_wanted()) {
                    // Nobody needs dy any more, nor has anybody put a part of dx.
                    backward(&mut dy, None).map_err(D::device_error)?;
                    dx_to.add(grads, dy)?;
                    if let Some(importance) = importance {
                        dx_to.put_importance(importance);
                    }
                    return Ok(());
                }
                dx_to.write_anyway(grads, |dx, fill| backward(&mut dy, Some((dx, fill))))?;
                // Before the residual's part, which may be for the same tensor.
                if let Some(importance) = importance {
                    dx_to.put_importance(importance);
                }
                // dy is the residual's gradient now.
                residual.map_or(Ok(()), |residual| residual.add(grads, dy))
            })
        },
    ))
}

fn check<B: Dim, C: Dim, H: Dim, W: Dim, E: Dtype, D: Backend<E>>(
    op: &BatchNorm2DOp,
    shape: &(B, C, H, W),
    residual: Option<&Input<(B, C, H, W), E, D>>,
    weight: &PerChannel<C, E, D>,
    bias: &PerChannel<C, E, D>,
    mode: &Mode<'_, C, E, D>,
    has_ranks: bool,
) -> Result<()> {
    op.check()?;
    let elements = shape.0.size() * shape.2.size() * shape.3.size();
    let (mean, var): (&PerChannel<C, E, D>, &PerChannel<C, E, D>) = match mode {
        // With other ranks the kernel counts all of theirs.
        Mode::Train { .. } if elements < 2 && !has_ranks => {
            let what = "elements of a channel (B * H * W) in training";
            return Err(Error::shape(OP, what, "at least 2", elements));
        }
        Mode::Train { mean, var } => (mean, var),
        Mode::Eval { mean, var } => (mean, var),
    };
    for t in [weight, bias, mean, var] {
        if t.shape().0 != shape.1 {
            let what = "one of weight, bias, running mean and variance";
            return Err(Error::shape(OP, what, (shape.1,), t.shape()));
        }
    }
    match residual {
        Some(r) if r.tensor.shape() != shape => {
            Err(Error::shape(OP, "residual", shape, r.tensor.shape()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
