//! The embedding of positions on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::PositionEmbeddingKernel;
use crate::bridge::cuda::calls::{launch, Grid, Slice, SliceMut, POSITION_EMBEDDING};
use crate::error::Result;
use crate::kernels::args::ImageDims;

const OP: &str = "position_embedding";

impl PositionEmbeddingKernel<f32> for Cuda {
    fn position_embedding_forward(
        dims: ImageDims,
        x: Slice<f32>,
        embedding: Slice<f32>,
        y: SliceMut<f32>,
    ) -> Result<()> {
        let ImageDims {
            batch,
            channels,
            plane,
        } = dims;
        let n = batch * channels * plane;
        check_len(OP, "x", x.len(), n)?;
        check_len(OP, "y", y.len(), n)?;
        check_len(OP, "embedding", embedding.len(), channels * plane)?;
        let memory = [x.into(), embedding.into(), (&y).into()];
        let args = memory.into_iter();
        let args: Vec<_> = args.chain([n, channels, plane].map(Into::into)).collect();
        let (name, grid) = ("position_embedding_forward", Grid::elements(n));
        launch(&POSITION_EMBEDDING, name, y.device(), grid, &args)
    }

    fn position_embedding_backward(
        dims: ImageDims,
        dy: Slice<f32>,
        gradient: SliceMut<f32>,
    ) -> Result<()> {
        let ImageDims {
            batch,
            channels,
            plane,
        } = dims;
        check_len(OP, "dy", dy.len(), batch * channels * plane)?;
        check_len(OP, "gradient", gradient.len(), channels * plane)?;
        let args = [
            dy.into(),
            (&gradient).into(),
            batch.into(),
            channels.into(),
            plane.into(),
        ];
        let grid = Grid::elements(channels * plane);
        let name = "position_embedding_backward";
        launch(&POSITION_EMBEDDING, name, gradient.device(), grid, &args)
    }
}
