//! Sums with ReLU on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::AddReLUKernel;
use crate::bridge::cuda::calls::{launch, Grid, Slice, SliceMut, ADD_RELU};
use crate::error::Result;

const OP: &str = "add_relu";

impl AddReLUKernel<f32> for Cuda {
    fn add_relu_forward(a: Slice<f32>, b: Slice<f32>, y: SliceMut<f32>) -> Result<()> {
        let n = y.len();
        check_len(OP, "a", a.len(), n)?;
        check_len(OP, "b", b.len(), n)?;
        let args = [a.into(), b.into(), (&y).into(), n.into()];
        launch(
            &ADD_RELU,
            "add_relu_forward",
            y.device(),
            Grid::elements(n),
            &args,
        )
    }

    fn add_relu_backward(y: Slice<f32>, dy: SliceMut<f32>) -> Result<()> {
        let n = dy.len();
        check_len(OP, "y", y.len(), n)?;
        let args = [y.into(), (&dy).into(), n.into()];
        launch(
            &ADD_RELU,
            "add_relu_backward",
            dy.device(),
            Grid::elements(n),
            &args,
        )
    }
}
