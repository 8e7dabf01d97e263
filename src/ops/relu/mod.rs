//! ReLU, several times faster on the CPU than dfdx's own.

mod cpu;
pub mod reference;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{PutTape, SplitTape, Storage, Tape, Tensor};
use dfdx::tensor_ops::ReshapeTo;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::profile::timed;

/// A device's kernels for ReLU.
pub trait ReLUKernel<E: Dtype>: Storage<E> {
    /// Writes `y` = max(x, 0).
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not contiguous, and those of the
    /// device.
    fn relu_forward<S: Shape>(x: &Tensor<S, E, Self>, y: &mut Tensor<S, E, Self>) -> Result<()>;

    /// Adds to `dx` the elements of `dy` where the output `y` is above 0.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not contiguous, and those of the
    /// device.
    fn relu_backward<S: Shape>(
        y: &Tensor<S, E, Self>,
        dy: &Self::Vec,
        dx: &mut Self::Vec,
    ) -> Result<()>;
}

/// y = max(x, 0), element by element; NaN stays NaN, and the gradient at 0 is 0, as in PyTorch.
///
/// The backward pass needs the output, not x.
///
/// # Errors
/// [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// let dev = Cpu::default();
/// let x = dev.tensor([-1.0f32, 2.0]);
/// let y = ssprop::ops::relu::try_relu(x.leaky_trace()).unwrap();
/// assert_eq!(y.array(), [0.0, 2.0]);
/// assert_eq!(y.sum().backward().get(&x).array(), [0.0, 1.0]);
/// ```
pub fn try_relu<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: Tensor<S, E, D, T>,
) -> Result<Tensor<S, E, D, T>> {
    let (x, mut tape) = x.try_contiguous().map_err(Error::device)?.split_tape();
    let mut y = x.device().alloc_output(*x.shape())?;
    timed("ReLU, forward", || D::relu_forward(&x, &mut y))?;
    let (x_ghost, y_ghost, kept) = (x.ghost(), y.ghost(), y.clone());
    drop(x);
    tape.add_backward_op(move |grads| {
        let dy = take_grad!(kept.device(), grads, &y_ghost);
        let dx = grads.get_or_alloc_mut(&x_ghost)?;
        timed("ReLU, backward", || D::relu_backward(&kept, &dy, dx)).map_err(D::device_error)?;
        kept.device().recycle(dy);
        Ok(())
    });
    Ok(y.put_tape(tape))
}

#[cfg(test)]
mod tests;
