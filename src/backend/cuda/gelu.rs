//! GELU on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::GELUKernel;
use crate::bridge::cuda::calls::{launch, Grid, Slice, SliceMut, GELU};
use crate::error::Result;
use crate::kernels::args::Fill;

const OP: &str = "gelu";

impl GELUKernel<f32> for Cuda {
    fn gelu_forward(x: Slice<f32>, y: SliceMut<f32>) -> Result<()> {
        let n = y.len();
        check_len(OP, "x", x.len(), n)?;
        let args = [x.into(), (&y).into(), n.into()];
        launch(&GELU, "gelu_forward", y.device(), Grid::elements(n), &args)
    }

    fn gelu_backward(x: Slice<f32>, dy: Slice<f32>, dx: SliceMut<f32>, fill: Fill) -> Result<()> {
        let n = dx.len();
        check_len(OP, "x", x.len(), n)?;
        check_len(OP, "dy", dy.len(), n)?;
        let args = [x.into(), dy.into(), (&dx).into(), n.into(), fill.into()];
        let grid = Grid::elements(n);
        launch(&GELU, "gelu_backward", dx.device(), grid, &args)
    }
}
