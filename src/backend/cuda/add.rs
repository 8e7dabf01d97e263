//! Sums on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::AddKernel;
use crate::bridge::cuda::calls::{launch, Grid, Slice, SliceMut, ADD};
use crate::bridge::grad::Accumulate;
use crate::error::Result;
use crate::kernels::args::Fill;

const OP: &str = "add";

impl AddKernel<f32> for Cuda {
    fn add_forward(a: Slice<f32>, b: Slice<f32>, y: SliceMut<f32>) -> Result<()> {
        let n = y.len();
        check_len(OP, "a", a.len(), n)?;
        check_len(OP, "b", b.len(), n)?;
        let args = [a.into(), b.into(), (&y).into(), n.into()];
        launch(&ADD, "add_forward", y.device(), Grid::elements(n), &args)
    }

    fn add_backward(dy: Slice<f32>, dx: SliceMut<f32>, fill: Fill) -> Result<()> {
        let n = dx.len();
        check_len(OP, "dy", dy.len(), n)?;
        let args = [dy.into(), (&dx).into(), n.into(), fill.into()];
        launch(&ADD, "add_backward", dx.device(), Grid::elements(n), &args)
    }
}

impl Accumulate<f32> for Cuda {
    fn accumulate(sum: SliceMut<f32>, term: Slice<f32>) -> Result<()> {
        Self::add_backward(term, sum, Fill::Add)
    }
}
