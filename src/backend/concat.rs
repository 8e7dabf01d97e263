//! The kernels of concatenation.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::concat::Part;
use crate::kernels::args::Fill;
use crate::kernels::cpu::concat;

/// Images side by side in their channels.
pub trait ConcatKernel<E: Dtype>: Views<E> {
    /// Writes the images `x` to their part of those of `y`.
    fn concat_forward(part: &Part, x: View<'_, E, Self>, y: ViewMut<'_, E, Self>) -> Result<()>;

    /// Adds to `dx`, or overwrites it with, its part of `dy`.
    fn concat_backward(
        part: &Part,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;
}

on_cpu!(ConcatKernel {
    fn concat_forward(part: &Part, x: &[E], y: &mut [E]) -> Result<()> {
        concat::forward(part, x, y);
        Ok(())
    }

    fn concat_backward(part: &Part, dy: &[E], dx: &mut [E], fill: Fill) -> Result<()> {
        concat::backward(part, dy, dx, fill);
        Ok(())
    }
});
