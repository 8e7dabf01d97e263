//! The kernels of the optimizer.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::{Error, Result};
use crate::kernels::args::adam::AdamStep;
use crate::kernels::cpu::adam;

/// Adam, and the moving average of its results.
pub trait AdamKernel<E: Dtype>: Views<E> {
    /// Updates the n weights `w`, and their moments `m` and `v`, with their gradient `g`, times a scale:
    ///
    /// - decoupled decay: w = (1 - lr decay) w; otherwise g = g + decay w
    /// - m = beta1 m + (1 - beta1) g
    /// - v = beta2 v + (1 - beta2) g^2
    /// - w = w - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
    ///
    /// A lazy step leaves weights whose gradient is exactly 0 as they are, with their moments.
    ///
    /// Returns the sum of squares of `g` as it was given, where the device has it without waiting.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths differ, those of the device.
    fn adam_update(
        step: &AdamStep,
        w: ViewMut<'_, E, Self>,
        m: ViewMut<'_, E, Self>,
        v: ViewMut<'_, E, Self>,
        g: ViewMut<'_, E, Self>,
    ) -> Result<Option<f64>>;

    /// Begins a step: updates that wait are forgotten.
    fn adam_begin() {}

    /// Ends a step: a device may have waited with updates, to do many at once.
    ///
    /// # Errors
    /// Those of the device.
    fn adam_finish() -> Result<()> {
        Ok(())
    }

    /// Moves each of n averages towards its weight: average += rate (w - average).
    ///
    /// # Errors
    /// As [`adam_update`](Self::adam_update).
    fn ema_update(rate: f64, average: ViewMut<'_, E, Self>, w: View<'_, E, Self>) -> Result<()>;
}

on_cpu!(AdamKernel {
    fn adam_update(
        step: &AdamStep,
        w: &mut [E],
        m: &mut [E],
        v: &mut [E],
        g: &mut [E],
    ) -> Result<Option<f64>> {
        for (what, found) in [
            ("elements of the gradient", g.len()),
            ("elements of the first moment", m.len()),
            ("elements of the second moment", v.len()),
        ] {
            if found != w.len() {
                return Err(Error::shape("adam", what, w.len(), found));
            }
        }
        Ok(Some(adam::update(step, w, m, v, g)?))
    }

    fn ema_update(rate: f64, average: &mut [E], w: &[E]) -> Result<()> {
        if w.len() != average.len() {
            return Err(Error::shape("ema", "elements", average.len(), w.len()));
        }
        Ok(adam::moving_average(rate, average, w)?)
    }
});
