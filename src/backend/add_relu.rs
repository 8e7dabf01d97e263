//! The kernels of sums with ReLU.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::cpu::add_relu;

/// y = max(a + b, 0), element by element.
pub trait AddReLUKernel<E: Dtype>: Views<E> {
    /// Writes `y`.
    fn add_relu_forward(
        a: View<'_, E, Self>,
        b: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Writes zeros to `dy` where the output `y` is not above 0.
    fn add_relu_backward(y: View<'_, E, Self>, dy: ViewMut<'_, E, Self>) -> Result<()>;
}

on_cpu!(AddReLUKernel {
    fn add_relu_forward(a: &[E], b: &[E], y: &mut [E]) -> Result<()> {
        add_relu::forward(a, b, y);
        Ok(())
    }

    fn add_relu_backward(y: &[E], dy: &mut [E]) -> Result<()> {
        add_relu::backward(y, dy);
        Ok(())
    }
});
