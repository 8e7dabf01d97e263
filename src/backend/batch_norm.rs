//! The kernels of batch normalisation.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{Ranking, View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::batch_norm::{AllRanks, BatchNorm2DOp, Input, Saved, Statistics};
use crate::kernels::args::{Fill, ImageDims};
use crate::kernels::cpu::batch_norm;

/// Batch normalisation of images, with the residual sum and the ReLU behind it.
pub trait BatchNorm2DKernel<E: Dtype>: Views<E> + Ranking {
    /// Writes `y` with the batch's own mean and variance, and moves the running ones towards them.
    /// `saved` gets the batch's mean and 1 / sqrt(var + eps). With `ranks` the batch is all ranks'.
    fn batch_norm2d_train(
        op: &BatchNorm2DOp,
        dims: ImageDims,
        input: Input<View<'_, E, Self>>,
        running: [ViewMut<'_, E, Self>; 2],
        y: ViewMut<'_, E, Self>,
        saved: [ViewMut<'_, E, Self>; 2],
        ranks: Option<AllRanks<'_>>,
    ) -> Result<()>;

    /// Writes `y` with the running mean and variance, and 1 / sqrt(var + eps) to `inv_std`.
    fn batch_norm2d_eval(
        op: &BatchNorm2DOp,
        dims: ImageDims,
        input: Input<View<'_, E, Self>>,
        running: [View<'_, E, Self>; 2],
        y: ViewMut<'_, E, Self>,
        inv_std: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Adds to `dx`, or overwrites it with, the gradient of x; without a `dx` it takes `dy`'s place.
    /// Masks `dy` by the ReLU, so that with a `dx` it is the residual's gradient. Overwrites
    /// `importance`, if given, with each channel's mean |dx|, and adds to `params` the gradients of
    /// weight and bias: those of this rank's images, also with `ranks`.
    #[allow(clippy::too_many_arguments)]
    fn batch_norm2d_backward(
        op: &BatchNorm2DOp,
        statistics: Statistics,
        dims: ImageDims,
        saved: Saved<View<'_, E, Self>>,
        dy: ViewMut<'_, E, Self>,
        dx: Option<(ViewMut<'_, E, Self>, Fill)>,
        importance: Option<Self::ImportanceMut<'_>>,
        params: [ViewMut<'_, E, Self>; 2],
        ranks: Option<AllRanks<'_>>,
    ) -> Result<()>;
}

on_cpu!(BatchNorm2DKernel {
    fn batch_norm2d_train(
        op: &BatchNorm2DOp,
        dims: ImageDims,
        input: Input<&[E]>,
        running: [&mut [E]; 2],
        y: &mut [E],
        saved: [&mut [E]; 2],
        ranks: Option<AllRanks<'_>>,
    ) -> Result<()> {
        Ok(batch_norm::train(
            op, dims, input, running, y, saved, ranks,
        )?)
    }

    fn batch_norm2d_eval(
        op: &BatchNorm2DOp,
        dims: ImageDims,
        input: Input<&[E]>,
        running: [&[E]; 2],
        y: &mut [E],
        inv_std: &mut [E],
    ) -> Result<()> {
        batch_norm::eval(op, dims, input, running, y, inv_std);
        Ok(())
    }

    fn batch_norm2d_backward(
        op: &BatchNorm2DOp,
        statistics: Statistics,
        dims: ImageDims,
        saved: Saved<&[E]>,
        dy: &mut [E],
        dx: Option<(&mut [E], Fill)>,
        importance: Option<&mut [f64]>,
        params: [&mut [E]; 2],
        ranks: Option<AllRanks<'_>>,
    ) -> Result<()> {
        Ok(batch_norm::backward(
            op, statistics, dims, saved, dy, dx, importance, params, ranks,
        )?)
    }
});
