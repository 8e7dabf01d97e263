//! The kernels of layer normalisation.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::layer_norm::{LayerNormOp, Saved};
use crate::kernels::args::{Fill, ImageDims};
use crate::kernels::cpu::layer_norm;

/// Layer normalisation over the channels of each position of images.
pub trait LayerNormKernel<E: Dtype>: Views<E> {
    /// Writes `y`, and each position's mean and 1 / sqrt(var + eps) to `saved`, (B, H W) each.
    fn layer_norm_forward(
        op: &LayerNormOp,
        dims: ImageDims,
        x: View<'_, E, Self>,
        weight: View<'_, E, Self>,
        bias: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
        saved: [ViewMut<'_, E, Self>; 2],
    ) -> Result<()>;

    /// Adds to `dx`, or overwrites it with, the gradient of x (B, C, H, W), and adds those of weight and
    /// bias.
    fn layer_norm_backward(
        dims: ImageDims,
        saved: Saved<View<'_, E, Self>>,
        dy: View<'_, E, Self>,
        dx: (ViewMut<'_, E, Self>, Fill),
        grads: [ViewMut<'_, E, Self>; 2],
    ) -> Result<()>;
}

on_cpu!(LayerNormKernel {
    fn layer_norm_forward(
        op: &LayerNormOp,
        dims: ImageDims,
        x: &[E],
        weight: &[E],
        bias: &[E],
        y: &mut [E],
        saved: [&mut [E]; 2],
    ) -> Result<()> {
        layer_norm::forward(op, dims, x, weight, bias, y, saved);
        Ok(())
    }

    fn layer_norm_backward(
        dims: ImageDims,
        saved: Saved<&[E]>,
        dy: &[E],
        dx: (&mut [E], Fill),
        grads: [&mut [E]; 2],
    ) -> Result<()> {
        layer_norm::backward(dims, saved, dy, dx, grads);
        Ok(())
    }
});
