//! The kernels of gradient clipping.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::cpu::gradient;

/// The norm of a gradient, and what keeps it small.
pub trait GradientKernel<E: Dtype>: Views<E> {
    /// The sum of squares of `g`, taken in f64.
    ///
    /// # Errors
    /// Those of the device.
    fn sum_of_squares(g: View<'_, E, Self>) -> Result<f64>;

    /// g = factor g
    ///
    /// # Errors
    /// Those of the device.
    fn scale_gradient(factor: f64, g: ViewMut<'_, E, Self>) -> Result<()>;

    /// g = max(-limit, min(limit, g))
    ///
    /// # Errors
    /// Those of the device.
    fn clamp_gradient(limit: f64, g: ViewMut<'_, E, Self>) -> Result<()>;
}

on_cpu!(GradientKernel {
    fn sum_of_squares(g: &[E]) -> Result<f64> {
        Ok(gradient::sum_of_squares(g))
    }

    fn scale_gradient(factor: f64, g: &mut [E]) -> Result<()> {
        Ok(gradient::scale(factor, g)?)
    }

    fn clamp_gradient(limit: f64, g: &mut [E]) -> Result<()> {
        Ok(gradient::clamp(limit, g)?)
    }
});
