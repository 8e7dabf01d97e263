//! The kernels of SiLU.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::Fill;
use crate::kernels::cpu::silu;

/// y = x sigmoid(x), element by element.
pub trait SiLUKernel<E: Dtype>: Views<E> {
    /// Writes `y`.
    fn silu_forward(x: View<'_, E, Self>, y: ViewMut<'_, E, Self>) -> Result<()>;

    /// Adds to `dx`, or overwrites it with, the gradient for `dy`: dy (s + x s (1 - s)) with s = sigmoid(x).
    fn silu_backward(
        x: View<'_, E, Self>,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;
}

on_cpu!(SiLUKernel {
    fn silu_forward(x: &[E], y: &mut [E]) -> Result<()> {
        silu::forward(x, y);
        Ok(())
    }

    fn silu_backward(x: &[E], dy: &[E], dx: &mut [E], fill: Fill) -> Result<()> {
        silu::backward(x, dy, dx, fill);
        Ok(())
    }
});
