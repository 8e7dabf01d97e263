//! SiLU, the activation of DDPM's U-Net.

pub(crate) mod cpu;
pub mod reference;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{PutTape, SplitTape, Storage, Tape, Tensor};
use dfdx::tensor_ops::ReshapeTo;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::profile::timed;

/// A device's kernels for SiLU.
pub trait SiLUKernel<E: Dtype>: Storage<E> {
    /// Writes `y` = x sigmoid(x).
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not contiguous, and those of the
    /// device.
    fn silu_forward<S: Shape>(x: &Tensor<S, E, Self>, y: &mut Tensor<S, E, Self>) -> Result<()>;

    /// Adds to `dx` the gradient for `dy`: dy (s + x s (1 - s)) with s = sigmoid(x).
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not contiguous, and those of the
    /// device.
    fn silu_backward<S: Shape>(
        x: &Tensor<S, E, Self>,
        dy: &Self::Vec,
        dx: &mut Self::Vec,
    ) -> Result<()>;
}

/// y = x sigmoid(x) = x / (1 + e^-x), element by element ([Elfwing et al.,
/// 2017](https://arxiv.org/abs/1702.03118); "swish" in the code of DDPM).
///
/// The backward pass keeps x. After a group norm, [the norm's own
/// activation](crate::ops::group_norm::Activation::SiLU) does the same in one pass.
///
/// # Errors
/// [`Error::Device`].
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
    let (x, mut tape) = x.try_contiguous().map_err(Error::device)?.split_tape();
    let mut y = x.device().alloc_output(*x.shape())?;
    timed("SiLU, forward", || D::silu_forward(&x, &mut y))?;
    let y_ghost = y.ghost();
    tape.add_backward_op(move |grads| {
        let dy = take_grad!(x.device(), grads, &y_ghost);
        let dx = grads.get_or_alloc_mut(&x)?;
        timed("SiLU, backward", || D::silu_backward(&x, &dy, dx)).map_err(D::device_error)?;
        x.device().recycle(dy);
        Ok(())
    });
    Ok(y.put_tape(tape))
}

#[cfg(test)]
mod tests;
