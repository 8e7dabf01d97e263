//! The kernels of pooling.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::pool::Pool2DOp;
use crate::kernels::args::Fill;
use crate::kernels::cpu::pool;

/// Windows over the B * C planes of a batch of images.
pub trait Pool2DKernel<E: Dtype>: Views<E> {
    /// Writes each window's maximum to `y`, and to `argmax`, if given, the number of the tap that met it,
    /// kh * K + kw.
    fn max_pool2d_forward(
        op: &Pool2DOp,
        x: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
        argmax: Option<ViewMut<'_, E, Self>>,
    ) -> Result<()>;

    /// Adds each element of `dy` to the element of `dx` that was its window's maximum; `dx` may have to be
    /// overwritten.
    fn max_pool2d_backward(
        op: &Pool2DOp,
        argmax: View<'_, E, Self>,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;

    /// Writes each window's mean to `y`; padding counts as zeros.
    fn avg_pool2d_forward(
        op: &Pool2DOp,
        x: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Spreads each element of `dy` over its window of `dx`, which may have to be overwritten.
    fn avg_pool2d_backward(
        op: &Pool2DOp,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;

    /// Writes the mean of each plane of `plane` elements to `y`.
    fn global_avg_pool2d_forward(
        plane: usize,
        x: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Spreads each element of `dy` over its plane of `dx`, which may have to be overwritten.
    fn global_avg_pool2d_backward(
        plane: usize,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;
}

on_cpu!(Pool2DKernel {
    fn max_pool2d_forward(op: &Pool2DOp, x: &[E], y: &mut [E], argmax: Option<&mut [E]>) -> Result<()> {
        pool::max_forward(op, x, y, argmax);
        Ok(())
    }

    fn max_pool2d_backward(op: &Pool2DOp, argmax: &[E], dy: &[E], dx: &mut [E], fill: Fill) -> Result<()> {
        pool::max_backward(op, argmax, dy, dx, fill);
        Ok(())
    }

    fn avg_pool2d_forward(op: &Pool2DOp, x: &[E], y: &mut [E]) -> Result<()> {
        pool::avg_forward(op, x, y);
        Ok(())
    }

    fn avg_pool2d_backward(op: &Pool2DOp, dy: &[E], dx: &mut [E], fill: Fill) -> Result<()> {
        pool::avg_backward(op, dy, dx, fill);
        Ok(())
    }

    fn global_avg_pool2d_forward(plane: usize, x: &[E], y: &mut [E]) -> Result<()> {
        pool::global_avg_forward(plane, x, y);
        Ok(())
    }

    fn global_avg_pool2d_backward(plane: usize, dy: &[E], dx: &mut [E], fill: Fill) -> Result<()> {
        pool::global_avg_backward(plane, dy, dx, fill);
        Ok(())
    }
});
