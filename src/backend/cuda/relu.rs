//! ReLU on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::ReLUKernel;
use crate::bridge::cuda::calls::{launch, Grid, Slice, SliceMut, RELU};
use crate::error::Result;
use crate::kernels::args::Fill;

const OP: &str = "relu";

impl ReLUKernel<f32> for Cuda {
    fn relu_forward(x: Slice<f32>, y: SliceMut<f32>) -> Result<()> {
        let n = y.len();
        check_len(OP, "x", x.len(), n)?;
        let args = [x.into(), (&y).into(), n.into()];
        launch(&RELU, "relu_forward", y.device(), Grid::elements(n), &args)
    }

    fn relu_backward(y: Slice<f32>, dy: Slice<f32>, dx: SliceMut<f32>, fill: Fill) -> Result<()> {
        let n = dx.len();
        check_len(OP, "y", y.len(), n)?;
        check_len(OP, "dy", dy.len(), n)?;
        let args = [y.into(), dy.into(), (&dx).into(), n.into(), fill.into()];
        launch(
            &RELU,
            "relu_backward",
            dx.device(),
            Grid::elements(n),
            &args,
        )
    }
}
