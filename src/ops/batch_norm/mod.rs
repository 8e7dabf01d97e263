//! Batch normalisation of images, with the residual sum and the ReLU that follow it in a network.

mod cpu;
pub mod reference;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Dim, HasShape, Shape};
use dfdx::tensor::{Merge, NoneTape, Storage, Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::{Buffer, Fill, Hidden, Input, PooledTensor};
use crate::error::{Error, Result};
use crate::profile::timed;

/// What is applied to the sum at the end of a fused operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// f(z) = z
    #[default]
    Identity,
    /// f(z) = max(z, 0)
    ReLU,
}

/// Where a normalisation's mean and variance come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Of the batch itself: they depend on x, and the gradient runs through them.
    Batch,
    /// Given: constants to the gradient.
    Running,
}

/// The numbers of a batch normalisation, shared by its forward and its backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm2DOp {
    /// Added to the variance before the square root is taken.
    pub eps: f64,
    /// The share of the batch's statistics in the new running ones.
    pub momentum: f64,
    /// Applied last.
    pub activation: Activation,
}

impl Default for BatchNorm2DOp {
    /// PyTorch's: eps 1e-5, momentum 0.1, no activation.
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: 0.1,
            activation: Activation::Identity,
        }
    }
}

impl BatchNorm2DOp {
    fn check(&self) -> Result<()> {
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            return Err(Error::parameter("eps", self.eps, "finite and at least 0"));
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(Error::parameter("momentum", self.momentum, "in 0..=1"));
        }
        Ok(())
    }
}

/// A batch of images, (B, C, H, W).
type Images<B, C, H, W, E, D, T = NoneTape> = Tensor<(B, C, H, W), E, D, T>;
/// The same, in or out of an operation of this crate.
type HiddenImages<B, C, H, W, E, D, T> = Hidden<(B, C, H, W), E, D, T>;
type InputImages<B, C, H, W, E, D> = Input<(B, C, H, W), E, D>;
/// One number a channel.
type PerChannel<C, E, D> = Tensor<(C,), E, D>;

/// A device's kernels for batch normalisation.
pub trait BatchNorm2DKernel<E: Dtype>: Storage<E> {
    /// Normalises with the batch's statistics: writes `y`, `mean` and `inv_std` = 1 / sqrt(var +
    /// eps), and moves the running statistics.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not contiguous, and those of the
    /// device.
    #[allow(clippy::too_many_arguments)]
    fn batch_norm2d_train<B: Dim, C: Dim, H: Dim, W: Dim>(
        op: &BatchNorm2DOp,
        x: &Images<B, C, H, W, E, Self>,
        residual: Option<&Images<B, C, H, W, E, Self>>,
        weight: &PerChannel<C, E, Self>,
        bias: &PerChannel<C, E, Self>,
        running_mean: &mut PerChannel<C, E, Self>,
        running_var: &mut PerChannel<C, E, Self>,
        y: &mut Images<B, C, H, W, E, Self>,
        mean: &mut PerChannel<C, E, Self>,
        inv_std: &mut PerChannel<C, E, Self>,
    ) -> Result<()>;

    /// Normalises with the running statistics: writes `y` and `inv_std`.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not contiguous, and those of the
    /// device.
    #[allow(clippy::too_many_arguments)]
    fn batch_norm2d_eval<B: Dim, C: Dim, H: Dim, W: Dim>(
        op: &BatchNorm2DOp,
        x: &Images<B, C, H, W, E, Self>,
        residual: Option<&Images<B, C, H, W, E, Self>>,
        weight: &PerChannel<C, E, Self>,
        bias: &PerChannel<C, E, Self>,
        running_mean: &PerChannel<C, E, Self>,
        running_var: &PerChannel<C, E, Self>,
        y: &mut Images<B, C, H, W, E, Self>,
        inv_std: &mut PerChannel<C, E, Self>,
    ) -> Result<()>;

    /// Adds dX to `dx` or overwrites it, and overwrites `dweight` and `dbias`, which are of length C.
    /// Without `dx`, dX takes `dy`'s place: only for a norm without a residual.
    ///
    /// `y`, the output, has to be given if there were both a residual and a ReLU: `dy` then becomes
    /// the gradient of the sum before the ReLU, which is the residual's. Without a residual the
    /// ReLU's mask is computed again from `x`. `importance` is for each channel's mean |dx|.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not contiguous, and those of the
    /// device.
    #[allow(clippy::too_many_arguments)]
    fn batch_norm2d_backward<B: Dim, C: Dim, H: Dim, W: Dim>(
        op: &BatchNorm2DOp,
        statistics: Statistics,
        x: &Images<B, C, H, W, E, Self>,
        y: Option<&Images<B, C, H, W, E, Self>>,
        weight: &PerChannel<C, E, Self>,
        bias: &PerChannel<C, E, Self>,
        mean: &PerChannel<C, E, Self>,
        inv_std: &PerChannel<C, E, Self>,
        dy: &mut Self::Vec,
        dx: Option<(&mut Self::Vec, Fill)>,
        importance: Option<&mut [f64]>,
        dweight: &mut Self::Vec,
        dbias: &mut Self::Vec,
    ) -> Result<()>;
}

/// The running statistics that training moves, each of length C.
#[derive(Debug)]
pub struct RunningStats<'a, C: Dim, E: Dtype, D: Storage<E>> {
    /// The mean.
    pub mean: &'a mut Tensor<(C,), E, D>,
    /// The unbiased variance.
    pub var: &'a mut Tensor<(C,), E, D>,
}

/// Batch normalisation with the batch's own statistics ([Ioffe and Szegedy,
/// 2015](https://arxiv.org/abs/1502.03167), algorithm 1), for training:
///
/// y = f(weight (x - mean) / sqrt(var + eps) + bias), with f the op's activation.
///
/// The mean and the biased variance are over the N = B H W elements of a channel. The running
/// statistics become (1 - momentum) running + momentum batch, with the unbiased variance, as
/// PyTorch's do. For the backward pass x, which the operation before it made, is kept, and two
/// numbers a channel.
///
/// - `x`, and the result: (B, C, H, W)
/// - `weight`, `bias`, the running statistics: (C)
///
/// # Errors
/// [`Error::Shape`] if the shapes do not agree or if N < 2, where there is no variance;
/// [`Error::Parameter`] if eps or momentum lies outside its range; [`Error::Device`].
pub fn try_batch_norm2d_train<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T>(
    x: Tensor<(B, C, H, W), E, D, T>,
    weight: &Tensor<(C,), E, D>,
    bias: &Tensor<(C,), E, D>,
    running: RunningStats<'_, C, E, D>,
    op: BatchNorm2DOp,
) -> Result<Tensor<(B, C, H, W), E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    train_hidden(x.into(), weight, bias, running, op).and_then(Hidden::into_tensor)
}

/// [`try_batch_norm2d_train`] with a residual of x's shape added before the activation, as the
/// blocks of a ResNet end: y = f(norm(x) + residual).
///
/// # Errors
/// As [`try_batch_norm2d_train`].
pub fn try_batch_norm2d_train_add<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T, R>(
    x: Tensor<(B, C, H, W), E, D, T>,
    residual: Tensor<(B, C, H, W), E, D, R>,
    weight: &Tensor<(C,), E, D>,
    bias: &Tensor<(C,), E, D>,
    running: RunningStats<'_, C, E, D>,
    op: BatchNorm2DOp,
) -> Result<Tensor<(B, C, H, W), E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D> + Merge<R>,
    R: Tape<E, D>,
{
    train_add_hidden(x.into(), residual.into(), weight, bias, running, op)
        .and_then(Hidden::into_tensor)
}

/// Batch normalisation with given statistics, for inference, or for training with the statistics
/// frozen: y = f(weight (x - mean) / sqrt(var + eps) + bias).
///
/// - `x`, and the result: (B, C, H, W)
/// - `weight`, `bias`, `mean`, `var`: (C)
///
/// # Errors
/// [`Error::Shape`] if the shapes do not agree; [`Error::Parameter`] if eps lies outside its range;
/// [`Error::Device`].
pub fn try_batch_norm2d_eval<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T>(
    x: Tensor<(B, C, H, W), E, D, T>,
    weight: &Tensor<(C,), E, D>,
    bias: &Tensor<(C,), E, D>,
    mean: &Tensor<(C,), E, D>,
    var: &Tensor<(C,), E, D>,
    op: BatchNorm2DOp,
) -> Result<Tensor<(B, C, H, W), E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    eval_hidden(x.into(), weight, bias, mean, var, op).and_then(Hidden::into_tensor)
}

/// [`try_batch_norm2d_eval`] with a residual of x's shape added before the activation.
///
/// # Errors
/// As [`try_batch_norm2d_eval`].
#[allow(clippy::too_many_arguments)]
pub fn try_batch_norm2d_eval_add<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T, R>(
    x: Tensor<(B, C, H, W), E, D, T>,
    residual: Tensor<(B, C, H, W), E, D, R>,
    weight: &Tensor<(C,), E, D>,
    bias: &Tensor<(C,), E, D>,
    mean: &Tensor<(C,), E, D>,
    var: &Tensor<(C,), E, D>,
    op: BatchNorm2DOp,
) -> Result<Tensor<(B, C, H, W), E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D> + Merge<R>,
    R: Tape<E, D>,
{
    eval_add_hidden(x.into(), residual.into(), weight, bias, mean, var, op)
        .and_then(Hidden::into_tensor)
}

/// [`try_batch_norm2d_train`] between operations of this crate.
pub(crate) fn train_hidden<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T>(
    x: HiddenImages<B, C, H, W, E, D, T>,
    weight: &PerChannel<C, E, D>,
    bias: &PerChannel<C, E, D>,
    running: RunningStats<'_, C, E, D>,
    op: BatchNorm2DOp,
) -> Result<HiddenImages<B, C, H, W, E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let (x, tape) = x.split()?;
    train(x, None, tape, weight, bias, running, op)
}

/// [`try_batch_norm2d_train_add`] between operations of this crate.
pub(crate) fn train_add_hidden<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T, R>(
    x: HiddenImages<B, C, H, W, E, D, T>,
    residual: HiddenImages<B, C, H, W, E, D, R>,
    weight: &PerChannel<C, E, D>,
    bias: &PerChannel<C, E, D>,
    running: RunningStats<'_, C, E, D>,
    op: BatchNorm2DOp,
) -> Result<HiddenImages<B, C, H, W, E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D> + Merge<R>,
    R: Tape<E, D>,
{
    let (x, tape) = x.split()?;
    let (residual, other) = residual.split()?;
    train(
        x,
        Some(residual),
        tape.merge(other),
        weight,
        bias,
        running,
        op,
    )
}

/// [`try_batch_norm2d_eval`] between operations of this crate.
pub(crate) fn eval_hidden<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T>(
    x: HiddenImages<B, C, H, W, E, D, T>,
    weight: &PerChannel<C, E, D>,
    bias: &PerChannel<C, E, D>,
    mean: &PerChannel<C, E, D>,
    var: &PerChannel<C, E, D>,
    op: BatchNorm2DOp,
) -> Result<HiddenImages<B, C, H, W, E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let (x, tape) = x.split()?;
    eval(x, None, tape, weight, bias, mean, var, op)
}

/// [`try_batch_norm2d_eval_add`] between operations of this crate.
pub(crate) fn eval_add_hidden<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T, R>(
    x: HiddenImages<B, C, H, W, E, D, T>,
    residual: HiddenImages<B, C, H, W, E, D, R>,
    weight: &PerChannel<C, E, D>,
    bias: &PerChannel<C, E, D>,
    mean: &PerChannel<C, E, D>,
    var: &PerChannel<C, E, D>,
    op: BatchNorm2DOp,
) -> Result<HiddenImages<B, C, H, W, E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D> + Merge<R>,
    R: Tape<E, D>,
{
    let (x, tape) = x.split()?;
    let (residual, other) = residual.split()?;
    let tape = tape.merge(other);
    eval(x, Some(residual), tape, weight, bias, mean, var, op)
}

fn train<B: Dim, C: Dim, H: Dim, W: Dim, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: InputImages<B, C, H, W, E, D>,
    residual: Option<InputImages<B, C, H, W, E, D>>,
    tape: T,
    weight: &PerChannel<C, E, D>,
    bias: &PerChannel<C, E, D>,
    running: RunningStats<'_, C, E, D>,
    op: BatchNorm2DOp,
) -> Result<HiddenImages<B, C, H, W, E, D, T>> {
    op.check()?;
    let shape @ (b, c, h, w) = *x.tensor.shape();
    let elements = b.size() * h.size() * w.size();
    if elements < 2 {
        return Err(Error::shape(
            "batch_norm2d",
            "elements of a channel (B * H * W) in training",
            "at least 2",
            elements,
        ));
    }
    let all = [weight, bias, &*running.mean, &*running.var];
    check_shapes(&shape, residual.as_ref(), all)?;

    let dev = x.tensor.device().clone();
    let mut y = x.output(shape)?;
    let mut mean = dev.try_zeros_like(&(c,)).map_err(Error::device)?;
    let mut inv_std = dev.try_zeros_like(&(c,)).map_err(Error::device)?;
    timed("batch norm, forward", || {
        D::batch_norm2d_train(
            &op,
            &x.tensor,
            residual.as_ref().map(|r| &*r.tensor),
            weight,
            bias,
            running.mean,
            running.var,
            y.tensor_mut(),
            &mut mean,
            &mut inv_std,
        )
    })?;
    let saved = Saved {
        op,
        statistics: Statistics::Batch,
        x,
        residual,
        weight: weight.clone(),
        bias: bias.clone(),
        mean,
        inv_std,
    };
    Ok(record(saved, y, tape))
}

#[allow(clippy::too_many_arguments)]
fn eval<B: Dim, C: Dim, H: Dim, W: Dim, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: InputImages<B, C, H, W, E, D>,
    residual: Option<InputImages<B, C, H, W, E, D>>,
    tape: T,
    weight: &PerChannel<C, E, D>,
    bias: &PerChannel<C, E, D>,
    mean: &PerChannel<C, E, D>,
    var: &PerChannel<C, E, D>,
    op: BatchNorm2DOp,
) -> Result<HiddenImages<B, C, H, W, E, D, T>> {
    op.check()?;
    let shape @ (_, c, _, _) = *x.tensor.shape();
    check_shapes(&shape, residual.as_ref(), [weight, bias, mean, var])?;

    let dev = x.tensor.device().clone();
    let mut y = x.output(shape)?;
    let mut inv_std = dev.try_zeros_like(&(c,)).map_err(Error::device)?;
    timed("batch norm, forward", || {
        D::batch_norm2d_eval(
            &op,
            &x.tensor,
            residual.as_ref().map(|r| &*r.tensor),
            weight,
            bias,
            mean,
            var,
            y.tensor_mut(),
            &mut inv_std,
        )
    })?;
    let saved = Saved {
        op,
        statistics: Statistics::Running,
        x,
        residual,
        weight: weight.clone(),
        bias: bias.clone(),
        mean: mean.clone(),
        inv_std,
    };
    Ok(record(saved, y, tape))
}

fn check_shapes<B: Dim, C: Dim, H: Dim, W: Dim, E: Dtype, D: Backend<E>>(
    shape: &(B, C, H, W),
    residual: Option<&InputImages<B, C, H, W, E, D>>,
    per_channel: [&PerChannel<C, E, D>; 4],
) -> Result<()> {
    let op = "batch_norm2d";
    for t in per_channel {
        if t.shape().0 != shape.1 {
            let what = "one of weight, bias, running mean and variance";
            return Err(Error::shape(op, what, (shape.1,), t.shape()));
        }
    }
    match residual {
        Some(r) if r.tensor.shape() != shape => {
            Err(Error::shape(op, "residual", shape, r.tensor.shape()))
        }
        _ => Ok(()),
    }
}

/// What the forward pass leaves for the backward pass.
struct Saved<B: Dim, C: Dim, H: Dim, W: Dim, E: Dtype, D: Backend<E>> {
    op: BatchNorm2DOp,
    statistics: Statistics,
    x: InputImages<B, C, H, W, E, D>,
    residual: Option<InputImages<B, C, H, W, E, D>>,
    weight: PerChannel<C, E, D>,
    bias: PerChannel<C, E, D>,
    mean: PerChannel<C, E, D>,
    inv_std: PerChannel<C, E, D>,
}

/// Puts the backward pass on the tape.
fn record<B: Dim, C: Dim, H: Dim, W: Dim, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    saved: Saved<B, C, H, W, E, D>,
    y: PooledTensor<(B, C, H, W), E, D>,
    tape: T,
) -> HiddenImages<B, C, H, W, E, D, T> {
    let Saved {
        op,
        statistics,
        x,
        residual,
        weight,
        bias,
        mean,
        inv_std,
    } = saved;
    // Only the residual's gradient is needed, not its elements.
    let residual = residual.map(|residual| residual.grad);
    let y_kept = (residual.is_some() && op.activation == Activation::ReLU).then(|| y.clone());

    Hidden::recorded(y, tape, move |mut dy, grads| {
        let (x, dx_to) = (x.tensor, x.grad);
        let (dev, shape) = (x.device(), x.shape());
        let (channels, len) = (shape.1.size(), shape.num_elements());
        let mut dweight = Buffer::take(dev, channels).map_err(D::device_error)?;
        let mut dbias = Buffer::take(dev, channels).map_err(D::device_error)?;
        let mut importance = dx_to.wants_importance().then(|| vec![0.0; channels]);
        let mut backward = |dy: &mut _, dx: Option<(&mut _, Fill)>| {
            timed("batch norm, backward", || {
                D::batch_norm2d_backward(
                    &op,
                    statistics,
                    &x,
                    y_kept.as_deref(),
                    &weight,
                    &bias,
                    &mean,
                    &inv_std,
                    dy,
                    dx,
                    importance.as_deref_mut(),
                    &mut dweight,
                    &mut dbias,
                )
            })
        };
        if residual.is_none() && dx_to.is_empty_slot() {
            // Nobody needs dy any more, nor has anybody put a part of dx.
            backward(&mut dy, None).map_err(D::device_error)?;
            dx_to.add(grads, dy)?;
        } else {
            dx_to.write(dev, grads, len, |dx, fill| {
                backward(&mut dy, Some((dx, fill)))
            })?;
            // dy is the residual's gradient now.
            if let Some(residual) = residual {
                residual.add(grads, dy)?;
            }
        }
        if let Some(importance) = importance {
            dx_to.put_importance(importance);
        }
        D::accumulate(grads.get_or_alloc_mut(&weight)?, &dweight);
        D::accumulate(grads.get_or_alloc_mut(&bias)?, &dbias);
        Ok(())
    })
}

#[cfg(test)]
mod tests;
