//! Dropout, with masks that are computed where they are needed instead of stored.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::Result;
use crate::profile::timed;

pub use crate::kernels::args::dropout::DropoutMask;

/// y = x / (1 - rate) where `mask` keeps the element, 0 elsewhere ([Srivastava et al.,
/// 2014](https://jmlr.org/papers/v15/srivastava14a.html), scaled in training so that inference
/// needs nothing).
///
/// Nothing is kept for the backward pass: it computes the mask again. At rate 0 x is handed on as
/// it is.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device).
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::dropout::{try_dropout, DropoutMask};
///
/// let dev = Cpu::default();
/// let x: Tensor<Rank1<1000>, f32, _> = dev.ones();
/// let y = try_dropout(x.leaky_trace(), DropoutMask::new(0.5, 7)?)?;
/// let kept = y.as_vec();
/// assert!(kept.iter().all(|&v| v == 0.0 || v == 2.0));
/// // The gradient passes where the values did.
/// assert_eq!(y.sum::<Rank0, _>().backward().get(&x).as_vec(), kept);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_dropout<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: Tensor<S, E, D, T>,
    mask: DropoutMask,
) -> Result<Tensor<S, E, D, T>> {
    dropout_hidden(x.into(), mask).and_then(Hidden::into_tensor)
}

/// [`try_dropout`] of a hidden tensor.
pub(crate) fn dropout_hidden<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: Hidden<S, E, D, T>,
    mask: DropoutMask,
) -> Result<Hidden<S, E, D, T>> {
    if mask.rate() == 0.0 {
        return Ok(x);
    }
    let (x, tape) = x.split()?;
    let shape = *x.tensor.shape();
    let images = shape.concrete().into().first().copied().unwrap_or(1);
    let mask = mask.of_images(shape.num_elements() / images.max(1));
    let mut y = x.output(shape)?;
    timed("dropout, forward", || {
        D::dropout_forward(&mask, x.tensor.view()?, y.view_mut()?)
    })?;
    let is_wanted = x.grad.is_wanted();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        x.grad.write(grads, |dx, fill| {
            timed("dropout, backward", || {
                D::dropout_backward(&mask, dy.view(), dx, fill)
            })
        })
    }))
}

#[cfg(test)]
mod tests;
