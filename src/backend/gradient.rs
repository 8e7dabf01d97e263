//! The kernels of gradient clipping.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{Ranking, View, ViewMut, Views};
use crate::error::{Error, Result};
use crate::kernels::cpu::gradient;

/// The norm of a gradient, and what keeps it small.
pub trait GradientKernel<E: Dtype>: Views<E> + Ranking {
    /// Writes the sum of squares of `g`, taken in f64, to the place `at` of `sums`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no such place; those of the device.
    fn sum_of_squares(g: View<'_, E, Self>, at: usize, sums: &mut Self::Importance) -> Result<()>;

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
    fn sum_of_squares(g: &[E], at: usize, sums: &mut Vec<f64>) -> Result<()> {
        let count = sums.len();
        let sum = sums.get_mut(at).ok_or_else(|| no_place(at, count))?;
        *sum = gradient::sum_of_squares(g);
        Ok(())
    }

    fn scale_gradient(factor: f64, g: &mut [E]) -> Result<()> {
        Ok(gradient::scale(factor, g)?)
    }

    fn clamp_gradient(limit: f64, g: &mut [E]) -> Result<()> {
        Ok(gradient::clamp(limit, g)?)
    }
});

/// There is room for `count` sums, not for this one.
pub(super) fn no_place(at: usize, count: usize) -> Error {
    Error::shape(
        "sum of squares",
        "place of a sum",
        format_args!("less than {count}"),
        at,
    )
}
