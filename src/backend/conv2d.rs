//! The kernels of convolutions.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{Ranking, View, ViewMut, Views};
use crate::error::{Error, Result};
use crate::kernels::args::conv2d::{Conv2DShape, Epilogue, KeptGrad, OutputGrad};
use crate::kernels::args::{Fill, KeptChannels};
use crate::kernels::cpu::conv2d::{self, channels, masked};
use crate::sparsity::largest;

/// 2-d convolutions, whose backward pass may have only some of the output channels, and what chooses
/// those.
pub trait Conv2DKernel<E: Dtype>: Views<E> + Ranking {
    /// Writes y (B, C_out, H_out, W_out) = conv(x, weight) + bias.
    ///
    /// # Errors
    /// [`Error::Shape`] for memory that has not the size that `shape` says, here and below.
    fn conv2d_forward(
        shape: &Conv2DShape,
        x: View<'_, E, Self>,
        weight: View<'_, E, Self>,
        bias: Option<View<'_, E, Self>>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Writes y = f(conv(x, weight) + bias + residual) in one pass. Returns false, with y unwritten, if the device
    /// has no such kernel.
    ///
    /// # Errors
    /// As [`conv2d_forward`](Self::conv2d_forward).
    fn conv2d_fused(
        _shape: &Conv2DShape,
        _x: View<'_, E, Self>,
        _weight: View<'_, E, Self>,
        _then: Epilogue<View<'_, E, Self>>,
        _y: ViewMut<'_, E, Self>,
    ) -> Result<bool> {
        Ok(false)
    }

    /// dX (B, C_in, H, W) += the gradient for `dy`, or dX = it.
    ///
    /// # Errors
    /// [`Error::Shape`] too for channels kept of another number than C_out, where the host can tell.
    fn conv2d_backward_input(
        shape: &Conv2DShape,
        weight: View<'_, E, Self>,
        dy: KeptGrad<View<'_, E, Self>, Self::KeptView<'_>>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;

    /// dW (C_out, C_in / groups, K, K) += the gradient for `dy`, in the rows of kept channels.
    ///
    /// # Errors
    /// As [`conv2d_backward_input`](Self::conv2d_backward_input).
    fn conv2d_backward_weight(
        shape: &Conv2DShape,
        x: View<'_, E, Self>,
        dy: KeptGrad<View<'_, E, Self>, Self::KeptView<'_>>,
        dw: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// db (C_out) += the sum of `dy` over batch and pixels, of kept channels.
    ///
    /// # Errors
    /// As [`conv2d_backward_input`](Self::conv2d_backward_input).
    fn conv2d_backward_bias(
        shape: &Conv2DShape,
        dy: KeptGrad<View<'_, E, Self>, Self::KeptView<'_>>,
        db: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Mean |dY| of each of `channels` channels of `pixels` pixels, over batch and pixels.
    ///
    /// # Errors
    /// Those of the device, here and below.
    fn channel_importance(
        &self,
        dy: View<'_, E, Self>,
        channels: usize,
        pixels: usize,
    ) -> Result<Self::Importance>;

    /// The `count` of `n` channels (or columns) of the largest importance. Of equally important ones the lower
    /// index is kept first; NaN counts as larger than any number.
    ///
    /// # Errors
    /// Also [`Error::Shape`] if there are not `n` importances.
    fn largest(&self, importance: Self::Importance, n: usize, count: usize) -> Result<Self::Kept>;

    /// The channels of a shrunk gradient's memory: the `kept` ones, and behind them as many of zeros as make the
    /// device's products faster.
    fn shrunk_channels(_shape: &Conv2DShape, kept: usize) -> usize {
        kept
    }

    /// Copies the channels `kept` of `dy` (B, channels, pixels) to `shrunk` (B, kept, pixels), which may have further
    /// channels, for zeros.
    fn gather_channels(
        dy: View<'_, E, Self>,
        channels: usize,
        pixels: usize,
        kept: Self::KeptView<'_>,
        shrunk: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Mean |dY| of each of `columns` columns of `dy` (rows, columns): with H_out W_out columns the
    /// rows are the batch's channels, with C_out H_out W_out its images.
    fn column_importance(&self, dy: View<'_, E, Self>, columns: usize) -> Result<Self::Importance>;

    /// Copies `dy` (rows, columns) to `masked`, with zeros where the column is not in `kept`.
    fn mask_columns(
        dy: View<'_, E, Self>,
        columns: usize,
        kept: Self::KeptView<'_>,
        masked: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Writes zeros to the channels of `dy` (B, channels, pixels) that are not in `kept`.
    fn zero_dropped(
        dy: ViewMut<'_, E, Self>,
        channels: usize,
        pixels: usize,
        kept: Self::KeptView<'_>,
    ) -> Result<()>;

    /// Multiplies every element of `dy` by `factor`.
    fn scale(dy: ViewMut<'_, E, Self>, factor: f64) -> Result<()>;
}

on_cpu!(Conv2DKernel {
    fn conv2d_forward(
        shape: &Conv2DShape,
        x: &[E],
        weight: &[E],
        bias: Option<&[E]>,
        y: &mut [E],
    ) -> Result<()> {
        Ok(conv2d::forward(shape, x, weight, Epilogue::bias(bias), y)?)
    }

    fn conv2d_fused(
        shape: &Conv2DShape,
        x: &[E],
        weight: &[E],
        then: Epilogue<&[E]>,
        y: &mut [E],
    ) -> Result<bool> {
        conv2d::forward(shape, x, weight, then, y)?;
        Ok(true)
    }

    fn conv2d_backward_input(
        shape: &Conv2DShape,
        weight: &[E],
        dy: OutputGrad<'_, &[E]>,
        dx: &mut [E],
        fill: Fill,
    ) -> Result<()> {
        Ok(conv2d::backward_input(shape, weight, dy, dx, fill)?)
    }

    fn conv2d_backward_weight(
        shape: &Conv2DShape,
        x: &[E],
        dy: OutputGrad<'_, &[E]>,
        dw: &mut [E],
    ) -> Result<()> {
        Ok(conv2d::backward_weight(shape, x, dy, dw)?)
    }

    fn conv2d_backward_bias(
        shape: &Conv2DShape,
        dy: OutputGrad<'_, &[E]>,
        db: &mut [E],
    ) -> Result<()> {
        Ok(channels::backward_bias(shape, dy, db)?)
    }

    fn channel_importance(&self, dy: &[E], channels: usize, pixels: usize) -> Result<Vec<f64>> {
        Ok(channels::importance(dy, channels, pixels))
    }

    fn largest(&self, importance: Vec<f64>, n: usize, count: usize) -> Result<KeptChannels> {
        check_importances(importance.len(), n)?;
        Ok(KeptChannels::new(largest(&importance, count), n)?)
    }

    fn gather_channels(
        dy: &[E],
        channels: usize,
        pixels: usize,
        kept: &KeptChannels,
        shrunk: &mut [E],
    ) -> Result<()> {
        channels::gather(dy, channels, pixels, kept, shrunk);
        Ok(())
    }

    fn column_importance(&self, dy: &[E], columns: usize) -> Result<Vec<f64>> {
        Ok(masked::importance(dy, columns))
    }

    fn mask_columns(dy: &[E], columns: usize, kept: &KeptChannels, masked: &mut [E]) -> Result<()> {
        masked::mask(dy, columns, kept, masked);
        Ok(())
    }

    fn zero_dropped(dy: &mut [E], channels: usize, pixels: usize, kept: &KeptChannels) -> Result<()> {
        masked::zero_dropped(dy, channels, pixels, kept);
        Ok(())
    }

    fn scale(dy: &mut [E], factor: f64) -> Result<()> {
        masked::scale(dy, factor);
        Ok(())
    }
});

/// That there is an importance for each of `n` channels.
pub(super) fn check_importances(found: usize, n: usize) -> Result<()> {
    match found == n {
        true => Ok(()),
        false => Err(Error::shape("select", "number of importances", n, found)),
    }
}

#[cfg(test)]
mod tests;
