//! The kernels of dropout.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::dropout::DropoutMask;
use crate::kernels::args::Fill;
use crate::kernels::cpu::dropout;

/// y = x / (1 - rate) where the mask keeps the element, 0 elsewhere.
pub trait DropoutKernel<E: Dtype>: Views<E> {
    /// Writes `y`.
    fn dropout_forward(
        mask: &DropoutMask,
        x: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Adds to `dx`, or overwrites it with, dy / (1 - rate) where `mask` keeps the element.
    fn dropout_backward(
        mask: &DropoutMask,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;
}

on_cpu!(DropoutKernel {
    fn dropout_forward(mask: &DropoutMask, x: &[E], y: &mut [E]) -> Result<()> {
        dropout::forward(mask, x, y);
        Ok(())
    }

    fn dropout_backward(mask: &DropoutMask, dy: &[E], dx: &mut [E], fill: Fill) -> Result<()> {
        dropout::backward(mask, dy, dx, fill);
        Ok(())
    }
});
