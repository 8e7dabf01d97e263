//! The kernels of the cross entropy.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::{Error, Result};
use crate::kernels::args::Fill;
use crate::kernels::cpu::cross_entropy;

/// The mean over rows of -sum target ln(softmax(x)), where x and target are (rows, classes).
pub trait CrossEntropyKernel<E: Dtype>: Views<E> {
    /// Writes it to the one element of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if x and target differ in length or are not rows of `classes`, here and below.
    fn cross_entropy_forward(
        classes: usize,
        x: View<'_, E, Self>,
        target: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Adds to `dx`, or overwrites it with, the gradient for the one element of `dy`.
    ///
    /// # Errors
    /// As [`cross_entropy_forward`](Self::cross_entropy_forward).
    fn cross_entropy_backward(
        classes: usize,
        x: View<'_, E, Self>,
        target: View<'_, E, Self>,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;
}

on_cpu!(CrossEntropyKernel {
    fn cross_entropy_forward(
        classes: usize,
        x: &[E],
        target: &[E],
        y: &mut [E],
    ) -> Result<()> {
        rows(classes, x.len(), &[target.len()], y.len())?;
        cross_entropy::forward(classes, x, target, y);
        Ok(())
    }

    fn cross_entropy_backward(
        classes: usize,
        x: &[E],
        target: &[E],
        dy: &[E],
        dx: &mut [E],
        fill: Fill,
    ) -> Result<()> {
        rows(classes, x.len(), &[target.len(), dx.len()], dy.len())?;
        cross_entropy::backward(classes, x, target, dy, dx, fill);
        Ok(())
    }
});

/// How many rows `len` elements are, as many as the others; `of_loss` is the loss's or its gradient's length.
pub(super) fn rows(classes: usize, len: usize, others: &[usize], of_loss: usize) -> Result<usize> {
    let op = "cross entropy";
    let rows = len / classes.max(1);
    if len != rows * classes {
        let rows = format_args!("rows of {classes}");
        return Err(Error::shape(op, "elements of x", rows, len));
    }
    if let Some(other) = others.iter().find(|&&other| other != len) {
        return Err(Error::shape(op, "elements of target or dx", len, other));
    }
    match of_loss {
        1 => Ok(rows),
        found => Err(Error::shape(op, "elements of the loss", 1, found)),
    }
}
