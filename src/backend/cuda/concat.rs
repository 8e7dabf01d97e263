//! Concatenation on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::ConcatKernel;
use crate::bridge::cuda::calls::{launch, Arg, Grid, Slice, SliceMut, CONCAT};
use crate::error::Result;
use crate::kernels::args::concat::Part;
use crate::kernels::args::Fill;

const OP: &str = "concat";

/// The sizes that both kernels take, of a part of `part` elements and its `whole`.
fn sizes(at: &Part, part: usize, whole: usize) -> Result<[Arg; 4]> {
    let images = whole / at.whole.max(1);
    check_len(OP, "part", part, images * at.range.len())?;
    check_len(OP, "whole", whole, images * at.whole)?;
    let [length, start] = [at.range.len(), at.range.start];
    Ok([part, length, at.whole, start].map(Arg::Size))
}

impl ConcatKernel<f32> for Cuda {
    fn concat_forward(part: &Part, x: Slice<f32>, y: SliceMut<f32>) -> Result<()> {
        let [n, length, whole, start] = sizes(part, x.len(), y.len())?;
        let args = [x.into(), (&y).into(), n, length, whole, start];
        launch(
            &CONCAT,
            "concat_forward",
            y.device(),
            Grid::elements(x.len()),
            &args,
        )
    }

    fn concat_backward(part: &Part, dy: Slice<f32>, dx: SliceMut<f32>, fill: Fill) -> Result<()> {
        let [n, length, whole, start] = sizes(part, dx.len(), dy.len())?;
        let args = [
            dy.into(),
            (&dx).into(),
            n,
            length,
            whole,
            start,
            fill.into(),
        ];
        launch(
            &CONCAT,
            "concat_backward",
            dx.device(),
            Grid::elements(dx.len()),
            &args,
        )
    }
}
