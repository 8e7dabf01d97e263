//! GELU, the activation of vision transformers.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::Result;
use crate::profile::timed;

/// y = x F(x), element by element, F(x) = (1 + erf(x / sqrt(2))) / 2 being the share of the standard normal
/// distribution below x ([Hendrycks and Gimpel, 2016](https://arxiv.org/abs/1606.08415)).
///
/// PyTorch's `GELU()`, not the approximation by tanh. In `f32` y is within 1e-5 of itself, also where F(x) is small. The
/// backward pass keeps x.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device).
///
/// ```
/// use dfdx::prelude::*;
/// let dev = Cpu::default();
/// let x = dev.tensor([0.0f32, 100.0]);
/// let y = ssprop::ops::gelu::try_gelu(x.leaky_trace())?;
/// assert_eq!(y.array(), [0.0, 100.0]);
/// assert_eq!(y.sum().backward().get(&x).array(), [0.5, 1.0]);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_gelu<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: Tensor<S, E, D, T>,
) -> Result<Tensor<S, E, D, T>> {
    gelu_hidden(x.into()).and_then(Hidden::into_tensor)
}

/// [`try_gelu`] of a hidden tensor.
pub(crate) fn gelu_hidden<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: Hidden<S, E, D, T>,
) -> Result<Hidden<S, E, D, T>> {
    let (x, tape) = x.split()?;
    let mut y = x.output(*x.tensor.shape())?;
    timed("GELU, forward", || {
        D::gelu_forward(x.tensor.view()?, y.view_mut()?)
    })?;
    let is_wanted = x.grad.is_wanted();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        x.grad.write(grads, |dx, fill| {
            timed("GELU, backward", || {
                D::gelu_backward(x.tensor.view()?, dy.view(), dx, fill)
            })
        })
    }))
}

#[cfg(test)]
mod tests;
