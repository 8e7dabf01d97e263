//! Upsampling on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::UpsampleKernel;
use crate::bridge::cuda::calls::{launch, Grid, Slice, SliceMut, UPSAMPLE};
use crate::error::Result;
use crate::kernels::args::Fill;

const OP: &str = "upsample_nearest2d";

impl UpsampleKernel<f32> for Cuda {
    fn upsample_nearest2d_forward(width: usize, x: Slice<f32>, y: SliceMut<f32>) -> Result<()> {
        let n = y.len();
        check_len(OP, "y", n, 4 * x.len())?;
        let args = [x.into(), (&y).into(), n.into(), width.into()];
        launch(
            &UPSAMPLE,
            "upsample_forward",
            y.device(),
            Grid::elements(n),
            &args,
        )
    }

    fn upsample_nearest2d_backward(
        width: usize,
        dy: Slice<f32>,
        dx: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let n = dx.len();
        check_len(OP, "dy", dy.len(), 4 * n)?;
        let args = [dy.into(), (&dx).into(), n.into(), width.into(), fill.into()];
        launch(
            &UPSAMPLE,
            "upsample_backward",
            dx.device(),
            Grid::elements(n),
            &args,
        )
    }
}
