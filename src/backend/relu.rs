//! The kernels of ReLU.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::Fill;
use crate::kernels::cpu::relu;

/// y = max(x, 0), element by element.
pub trait ReLUKernel<E: Dtype>: Views<E> {
    /// Writes `y`.
    fn relu_forward(x: View<'_, E, Self>, y: ViewMut<'_, E, Self>) -> Result<()>;

    /// Adds to `dx`, or overwrites it with, the elements of `dy` where the output `y` is above 0.
    fn relu_backward(
        y: View<'_, E, Self>,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;
}

on_cpu!(ReLUKernel {
    fn relu_forward(x: &[E], y: &mut [E]) -> Result<()> {
        relu::forward(x, y);
        Ok(())
    }

    fn relu_backward(y: &[E], dy: &[E], dx: &mut [E], fill: Fill) -> Result<()> {
        relu::backward(y, dy, dx, fill);
        Ok(())
    }
});
