//! The kernels of group normalisation.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{Ranking, View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::group_norm::{Grads, GroupNormOp, Input, Saved};
use crate::kernels::args::{Fill, ImageDims};
use crate::kernels::cpu::group_norm;

/// Group normalisation of images, with the shift before it and the SiLU behind it.
pub trait GroupNormKernel<E: Dtype>: Views<E> + Ranking {
    /// Writes `y`, and each group's mean and 1 / sqrt(var + eps) to `saved`, (B, G) each.
    fn group_norm_forward(
        op: &GroupNormOp,
        dims: ImageDims,
        groups: usize,
        input: Input<View<'_, E, Self>>,
        y: ViewMut<'_, E, Self>,
        saved: [ViewMut<'_, E, Self>; 2],
    ) -> Result<()>;

    /// Adds to `dx`, or overwrites it with, the gradient of x (B, C, H, W), adds to `params` those of weight and bias,
    /// and overwrites the others.
    fn group_norm_backward(
        dims: ImageDims,
        groups: usize,
        saved: Saved<View<'_, E, Self>>,
        dy: View<'_, E, Self>,
        dx: (ViewMut<'_, E, Self>, Fill),
        grads: Grads<ViewMut<'_, E, Self>, Self::ImportanceMut<'_>>,
        params: [ViewMut<'_, E, Self>; 2],
    ) -> Result<()>;
}

on_cpu!(GroupNormKernel {
    fn group_norm_forward(
        op: &GroupNormOp,
        dims: ImageDims,
        groups: usize,
        input: Input<&[E]>,
        y: &mut [E],
        saved: [&mut [E]; 2],
    ) -> Result<()> {
        group_norm::forward(op, dims, groups, input, y, saved);
        Ok(())
    }

    fn group_norm_backward(
        dims: ImageDims,
        groups: usize,
        saved: Saved<&[E]>,
        dy: &[E],
        dx: (&mut [E], Fill),
        grads: Grads<&mut [E], &mut [f64]>,
        params: [&mut [E]; 2],
    ) -> Result<()> {
        group_norm::backward(dims, groups, saved, dy, dx, grads, params);
        Ok(())
    }
});
