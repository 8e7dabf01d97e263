//! The kernels of sums.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::grad::Accumulate;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::Fill;
use crate::kernels::cpu::add;

/// y = a + b, element by element.
pub trait AddKernel<E: Dtype>: Views<E> {
    /// Writes `y`.
    fn add_forward(
        a: View<'_, E, Self>,
        b: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// `dx` += `dy`, or `dx` = `dy`: the gradient of either term, and of whatever else adds up.
    fn add_backward(dy: View<'_, E, Self>, dx: ViewMut<'_, E, Self>, fill: Fill) -> Result<()>;
}

on_cpu!(AddKernel {
    fn add_forward(a: &[E], b: &[E], y: &mut [E]) -> Result<()> {
        add::forward(a, b, y);
        Ok(())
    }

    fn add_backward(dy: &[E], dx: &mut [E], fill: Fill) -> Result<()> {
        add::backward(dy, dx, fill);
        Ok(())
    }
});

macro_rules! accumulate {
    ($($E:ty),*) => {$(
        impl Accumulate<$E> for Cpu {
            fn accumulate(sum: &mut [$E], term: &[$E]) -> Result<()> {
                add::backward(term, sum, Fill::Add);
                Ok(())
            }
        }
    )*};
}
accumulate!(f32, f64);
