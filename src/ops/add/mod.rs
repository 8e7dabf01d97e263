//! The sum of two tensors: the end of a residual block without an activation.

mod cpu;

pub(crate) use cpu::write;
use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Merge, Storage, Tape, Tensor};

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::ops::held::Held;
use crate::ops::linked::{add_grad, hand_grad, Fill, Link, Linked};
use crate::profile::timed;

/// A device's kernels for sums.
pub trait AddKernel<E: Dtype>: Storage<E> {
    /// Writes `y` = a + b.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not contiguous, and those of the device.
    fn add_forward<S: Shape>(
        a: &Tensor<S, E, Self>,
        b: &Tensor<S, E, Self>,
        y: &mut Tensor<S, E, Self>,
    ) -> Result<()>;

    /// `dx` += `dy`, or `dx` = `dy`: the gradient of either term.
    fn add_backward(dy: &Self::Vec, dx: &mut Self::Vec, fill: Fill);

    /// `sum` += `term`, element by element.
    fn accumulate(sum: &mut Self::Vec, term: &Self::Vec) {
        Self::add_backward(term, sum, Fill::Add);
    }
}

/// y = a + b, element by element.
///
/// dfdx's sum, faster on the CPU.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ; [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// let dev = Cpu::default();
/// let (a, b) = (dev.tensor([-1.0f32, 2.0]), dev.tensor([0.5, 0.5]));
/// let y = ssprop::ops::add::try_add(a.leaky_trace(), b.clone())?;
/// assert_eq!(y.array(), [-0.5, 2.5]);
/// assert_eq!(y.sum().backward().get(&b).array(), [1.0, 1.0]);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_add<S: Shape, E: Dtype, D: Backend<E>, T, R>(
    a: Tensor<S, E, D, T>,
    b: Tensor<S, E, D, R>,
) -> Result<Tensor<S, E, D, T>>
where
    T: Tape<E, D> + Merge<R>,
    R: Tape<E, D>,
{
    add_linked(a.into(), b.into()).and_then(Linked::into_tensor)
}

/// [`try_add`] between operations of this crate.
pub(crate) fn add_linked<S: Shape, E: Dtype, D: Backend<E>, T, R>(
    a: Linked<S, E, D, T>,
    b: Linked<S, E, D, R>,
) -> Result<Linked<S, E, D, T>>
where
    T: Tape<E, D> + Merge<R>,
    R: Tape<E, D>,
{
    if a.shape() != b.shape() {
        return Err(Error::shape("add", "terms", a.shape(), b.shape()));
    }
    let (a, a_link, tape) = a.split()?;
    let (b, b_link, other) = b.split()?;
    let mut tape = tape.merge(other);
    let (dev, len) = (a.device().clone(), a.shape().num_elements());
    let mut y = Held::alloc(&dev, &a_link, *a.shape())?;
    timed("sum, forward", || D::add_forward(&a, &b, y.tensor_mut()))?;
    let y_link = Link::new();
    let link = y_link.clone();
    let (a, b) = (a.ghost(), b.ghost());
    tape.add_backward_op(move |grads| {
        let Some(dy) = link.take() else {
            return Ok(());
        };
        // One term can have dy itself, if its link is empty. The other's share comes first; if they
        // are one tensor, the link is not empty then any more.
        let ((first, first_link), (last, last_link)) = match &a_link {
            Some(link) if link.is_empty() => ((&b, &b_link), (&a, &a_link)),
            _ => ((&a, &a_link), (&b, &b_link)),
        };
        let share = |dx: &mut _, fill| {
            timed("sum, backward", || D::add_backward(&dy, dx, fill));
            Ok::<_, D::Err>(())
        };
        add_grad!(dev, grads, first, first_link, len, share);
        hand_grad!(dev, grads, last, last_link, dy);
        Ok(())
    });
    Ok(Linked::new(y, y_link, tape))
}

#[cfg(test)]
mod tests;
