//! The kernel of SGD.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{ViewMut, Views};
use crate::error::{Error, Result};
use crate::kernels::args::sgd::SgdStep;
use crate::kernels::cpu::sgd;

/// SGD.
pub trait SgdKernel<E: Dtype>: Views<E> {
    /// Updates the n weights `w`, and their momentum buffer b, with their gradient `g`:
    ///
    /// - g = scale g + decay w
    /// - b = g at first, then momentum b + (1 - dampening) g
    /// - w = w - lr b, with Nesterov's momentum w - lr (g + momentum b), without b w - lr g
    ///
    /// Returns the sum of squares of `g` as it was given, where the device has it without waiting.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths differ, those of the device.
    fn sgd_update(
        step: &SgdStep,
        w: ViewMut<'_, E, Self>,
        buffer: Option<ViewMut<'_, E, Self>>,
        g: ViewMut<'_, E, Self>,
    ) -> Result<Option<f64>>;
}

on_cpu!(SgdKernel {
    fn sgd_update(
        step: &SgdStep,
        w: &mut [E],
        buffer: Option<&mut [E]>,
        g: &mut [E],
    ) -> Result<Option<f64>> {
        let in_buffer = buffer.as_ref().map_or(w.len(), |buffer| buffer.len());
        for (what, found) in [
            ("elements of the gradient", g.len()),
            ("elements of the momentum buffer", in_buffer),
        ] {
            if found != w.len() {
                return Err(Error::shape("sgd", what, w.len(), found));
            }
        }
        Ok(Some(sgd::update(step, w, buffer, g)?))
    }
});
