//! The kernels of the embedding of positions.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::ImageDims;
use crate::kernels::cpu::position_embedding;

/// y = x + embedding, for images (B, C, H, W) and a vector for each position, (H W, C). The gradient of x is
/// that of y.
pub trait PositionEmbeddingKernel<E: Dtype>: Views<E> {
    /// Writes `y`.
    fn position_embedding_forward(
        dims: ImageDims,
        x: View<'_, E, Self>,
        embedding: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Adds the sum of `dy` over the images to the embedding's `gradient`.
    fn position_embedding_backward(
        dims: ImageDims,
        dy: View<'_, E, Self>,
        gradient: ViewMut<'_, E, Self>,
    ) -> Result<()>;
}

on_cpu!(PositionEmbeddingKernel {
    fn position_embedding_forward(dims: ImageDims, x: &[E], embedding: &[E], y: &mut [E]) -> Result<()> {
        position_embedding::forward(dims, x, embedding, y);
        Ok(())
    }

    fn position_embedding_backward(dims: ImageDims, dy: &[E], gradient: &mut [E]) -> Result<()> {
        position_embedding::backward(dims, dy, gradient);
        Ok(())
    }
});
