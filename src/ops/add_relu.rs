//! The sum of two tensors and the ReLU after it, in one pass.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Merge, Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::{GradTarget, Hidden};
use crate::error::{Error, Result};
use crate::ops::add::give_to_both;
use crate::profile::timed;

/// y = max(a + b, 0), element by element: the end of a residual block whose branches are not
/// normalised last.
///
/// The backward pass needs the output only.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ; [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// let dev = Cpu::default();
/// let (a, b) = (dev.tensor([-1.0f32, 2.0]), dev.tensor([0.5, 0.5]));
/// let y = ssprop::ops::add_relu::try_add_relu(a.leaky_trace(), b.clone()).unwrap();
/// assert_eq!(y.array(), [0.0, 2.5]);
/// assert_eq!(y.sum().backward().get(&b).array(), [0.0, 1.0]);
/// ```
pub fn try_add_relu<S: Shape, E: Dtype, D: Backend<E>, T, R>(
    a: Tensor<S, E, D, T>,
    b: Tensor<S, E, D, R>,
) -> Result<Tensor<S, E, D, T>>
where
    T: Tape<E, D> + Merge<R>,
    R: Tape<E, D>,
{
    add_relu_hidden(a.into(), b.into()).and_then(Hidden::into_tensor)
}

/// [`try_add_relu`] of hidden tensors.
pub(crate) fn add_relu_hidden<S: Shape, E: Dtype, D: Backend<E>, T, R>(
    a: Hidden<S, E, D, T>,
    b: Hidden<S, E, D, R>,
) -> Result<Hidden<S, E, D, T>>
where
    T: Tape<E, D> + Merge<R>,
    R: Tape<E, D>,
{
    if a.shape() != b.shape() {
        return Err(Error::shape("add_relu", "terms", a.shape(), b.shape()));
    }
    let (a, tape) = a.split()?;
    let (b, tape) = b.split_onto(tape)?;
    let mut y = a.output(*a.tensor.shape())?;
    timed("sum and ReLU, forward", || {
        D::add_relu_forward(a.tensor.view()?, b.tensor.view()?, y.view_mut()?)
    })?;
    let kept = y.clone();
    let terms = [a.grad, b.grad];
    let is_wanted = terms.iter().any(GradTarget::is_wanted);
    Ok(Hidden::recorded(
        y,
        tape,
        is_wanted,
        move |mut dy, grads| {
            timed("sum and ReLU, backward", || {
                let y = kept.view().map_err(D::device_error)?;
                D::add_relu_backward(y, dy.view_mut()).map_err(D::device_error)?;
                give_to_both(grads, terms, dy)
            })
        },
    ))
}

#[cfg(test)]
mod tests;
