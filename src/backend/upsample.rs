//! The kernels of upsampling.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::Fill;
use crate::kernels::cpu::upsample;

/// Images of twice the height and width, each pixel four times. `width` is the smaller image's.
pub trait UpsampleKernel<E: Dtype>: Views<E> {
    /// Writes `y`.
    fn upsample_nearest2d_forward(
        width: usize,
        x: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Adds the sum of every square of `dy` to its pixel of `dx`, or overwrites that.
    fn upsample_nearest2d_backward(
        width: usize,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;
}

on_cpu!(UpsampleKernel {
    fn upsample_nearest2d_forward(width: usize, x: &[E], y: &mut [E]) -> Result<()> {
        upsample::forward(width, x, y);
        Ok(())
    }

    fn upsample_nearest2d_backward(width: usize, dy: &[E], dx: &mut [E], fill: Fill) -> Result<()> {
        upsample::backward(width, dy, dx, fill);
        Ok(())
    }
});
