//! SiLU on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::SiLUKernel;
use crate::bridge::cuda::calls::{launch, Grid, Slice, SliceMut, SILU};
use crate::error::Result;
use crate::kernels::args::Fill;

const OP: &str = "silu";

impl SiLUKernel<f32> for Cuda {
    fn silu_forward(x: Slice<f32>, y: SliceMut<f32>) -> Result<()> {
        let n = y.len();
        check_len(OP, "x", x.len(), n)?;
        let args = [x.into(), (&y).into(), n.into()];
        launch(&SILU, "silu_forward", y.device(), Grid::elements(n), &args)
    }

    fn silu_backward(x: Slice<f32>, dy: Slice<f32>, dx: SliceMut<f32>, fill: Fill) -> Result<()> {
        let n = dx.len();
        check_len(OP, "x", x.len(), n)?;
        check_len(OP, "dy", dy.len(), n)?;
        let args = [x.into(), dy.into(), (&dx).into(), n.into(), fill.into()];
        launch(
            &SILU,
            "silu_backward",
            dx.device(),
            Grid::elements(n),
            &args,
        )
    }
}
