//! SiLU, the activation of DDPM's U-Net.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::Result;
use crate::profile::timed;

/// y = x sigmoid(x) = x / (1 + e^-x), element by element ([Elfwing et al.,
/// 2017](https://arxiv.org/abs/1702.03118); "swish" in the code of DDPM).
///
/// The backward pass keeps x. After a group norm, [the norm's own
/// activation](crate::ops::group_norm::Activation::SiLU) does the same in one pass.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device).
///
/// ```
/// use dfdx::prelude::*;
/// let dev = Cpu::default();
/// let x = dev.tensor([0.0f32, 100.0]);
/// let y = ssprop::ops::silu::try_silu(x.leaky_trace()).unwrap();
/// assert_eq!(y.array(), [0.0, 100.0]);
/// assert_eq!(y.sum().backward().get(&x).array(), [0.5, 1.0]);
/// ```
pub fn try_silu<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: Tensor<S, E, D, T>,
) -> Result<Tensor<S, E, D, T>> {
    silu_hidden(x.into()).and_then(Hidden::into_tensor)
}

/// [`try_silu`] of a hidden tensor.
pub(crate) fn silu_hidden<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: Hidden<S, E, D, T>,
) -> Result<Hidden<S, E, D, T>> {
    let (x, tape) = x.split()?;
    let mut y = x.output(*x.tensor.shape())?;
    timed("SiLU, forward", || {
        D::silu_forward(x.tensor.view()?, y.view_mut()?)
    })?;
    let is_wanted = x.grad.is_wanted();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        x.grad.write(grads, |dx, fill| {
            timed("SiLU, backward", || {
                D::silu_backward(x.tensor.view()?, dy.view(), dx, fill)
            })
        })
    }))
}

#[cfg(test)]
mod tests;
