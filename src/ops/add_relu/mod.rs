//! The sum of two tensors and the ReLU after it, in one pass.

mod cpu;
pub mod reference;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::Storage;
use dfdx::tensor::{Merge, PutTape, SplitTape, Tape, Tensor};
use dfdx::tensor_ops::ReshapeTo;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::ops::relu::ReLUKernel;
use crate::profile::timed;

/// A device's kernels for the sum with ReLU.
pub trait AddReLUKernel<E: Dtype>: ReLUKernel<E> {
    /// Writes `y` = max(a + b, 0).
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not contiguous, and those of the
    /// device.
    fn add_relu_forward<S: Shape>(
        a: &Tensor<S, E, Self>,
        b: &Tensor<S, E, Self>,
        y: &mut Tensor<S, E, Self>,
    ) -> Result<()>;

    /// Adds to `da` and to `db` the elements of `dy` where the output `y` is above 0.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not contiguous, and those of the
    /// device.
    fn add_relu_backward<S: Shape>(
        y: &Tensor<S, E, Self>,
        dy: &Self::Vec,
        da: &mut Self::Vec,
        db: &mut Self::Vec,
    ) -> Result<()>;
}

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
    if a.shape() != b.shape() {
        return Err(Error::shape("add_relu", "terms", a.shape(), b.shape()));
    }
    let (a, tape) = a.try_contiguous().map_err(Error::device)?.split_tape();
    let (b, other) = b.try_contiguous().map_err(Error::device)?.split_tape();
    let mut tape = tape.merge(other);
    let mut y = a.device().alloc_output(*a.shape())?;
    timed("sum and ReLU, forward", || {
        D::add_relu_forward(&a, &b, &mut y)
    })?;
    let (a_ghost, b_ghost, y_ghost, kept) = (a.ghost(), b.ghost(), y.ghost(), y.clone());
    drop((a, b));
    tape.add_backward_op(move |grads| {
        let dev = kept.device();
        let dy = take_grad!(dev, grads, &y_ghost);
        let mut da = take_grad!(dev, grads, &a_ghost);
        let db = grads.get_or_alloc_mut(&b_ghost)?;
        // If a and b are one tensor, this is what the taking left.
        if Storage::<E>::len(dev, db) != Storage::<E>::len(dev, &da) {
            D::relu_backward(&kept, &dy, &mut da).map_err(D::device_error)?;
            D::relu_backward(&kept, &dy, &mut da).map_err(D::device_error)?;
        } else {
            timed("sum and ReLU, backward", || {
                D::add_relu_backward(&kept, &dy, &mut da, db)
            })
            .map_err(D::device_error)?;
        }
        dev.recycle(dy);
        *grads.get_or_alloc_mut(&a_ghost)? = da;
        Ok(())
    });
    Ok(y.put_tape(tape))
}

#[cfg(test)]
mod tests;
