//! The kernels of distances.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::distance::Distance;
use crate::kernels::args::Fill;
use crate::kernels::cpu::distance;

/// The mean distance of `x` from `target`, over all elements.
pub trait DistanceKernel<E: Dtype>: Views<E> {
    /// Writes it to the one element of `y`.
    fn distance_forward(
        distance: Distance,
        x: View<'_, E, Self>,
        target: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Adds to `dx`, or overwrites it with, the gradient for the one element of `dy`.
    fn distance_backward(
        distance: Distance,
        x: View<'_, E, Self>,
        target: View<'_, E, Self>,
        dy: View<'_, E, Self>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;
}

on_cpu!(DistanceKernel {
    fn distance_forward(
        distance: Distance,
        x: &[E],
        target: &[E],
        y: &mut [E],
    ) -> Result<()> {
        distance::forward(distance, x, target, y);
        Ok(())
    }

    fn distance_backward(
        distance: Distance,
        x: &[E],
        target: &[E],
        dy: &[E],
        dx: &mut [E],
        fill: Fill,
    ) -> Result<()> {
        distance::backward(distance, x, target, dy, dx, fill);
        Ok(())
    }
});
