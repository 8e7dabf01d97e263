//! The kernels of GELU.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::Fill;
use crate::kernels::cpu::gelu;

/// y = x F(x), element by element, F(x) being the share of the standard normal distribution below x.
pub trait GELUKernel<E: Dtype>: Views<E> {
    /// Writes `y`.
    fn gelu_forward(x: View<'_, E, Self>, y: ViewMut<'_, E, Self>) -> Result<()>;

    /// Adds to `dx`, or overwrites it with, the gradient for `dy`: dy (F(x) + x F'(x)).
    fn gelu_backward(
        x: View<'_, E, Self>,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;
}

on_cpu!(GELUKernel {
    fn gelu_forward(x: &[E], y: &mut [E]) -> Result<()> {
        gelu::forward(x, y);
        Ok(())
    }

    fn gelu_backward(x: &[E], dy: &[E], dx: &mut [E], fill: Fill) -> Result<()> {
        gelu::backward(x, dy, dx, fill);
        Ok(())
    }
});
