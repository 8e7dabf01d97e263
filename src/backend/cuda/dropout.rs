//! Dropout on CUDA, with the CPU's masks.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::DropoutKernel;
use crate::bridge::cuda::calls::{launch, Arg, Grid, Slice, SliceMut, DROPOUT};
use crate::error::Result;
use crate::kernels::args::dropout::DropoutMask;
use crate::kernels::args::Fill;

const OP: &str = "dropout";

/// The mask, as both kernels take it.
fn mask_args(mask: &DropoutMask) -> [Arg; 4] {
    let threshold = Arg::Int(mask.threshold() as i32);
    [
        Arg::Bits(mask.key()),
        threshold,
        Arg::Float(mask.scale() as f32),
        mask.start().into(),
    ]
}

impl DropoutKernel<f32> for Cuda {
    fn dropout_forward(mask: &DropoutMask, x: Slice<f32>, y: SliceMut<f32>) -> Result<()> {
        let n = y.len();
        check_len(OP, "x", x.len(), n)?;
        let [key, threshold, scale, start] = mask_args(mask);
        let args = [
            x.into(),
            (&y).into(),
            n.into(),
            key,
            threshold,
            scale,
            start,
        ];
        launch(
            &DROPOUT,
            "dropout_forward",
            y.device(),
            Grid::elements(n),
            &args,
        )
    }

    fn dropout_backward(
        mask: &DropoutMask,
        dy: Slice<f32>,
        dx: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let n = dx.len();
        check_len(OP, "dy", dy.len(), n)?;
        let [key, threshold, scale, start] = mask_args(mask);
        let args = [
            dy.into(),
            (&dx).into(),
            n.into(),
            key,
            threshold,
            scale,
            start,
            fill.into(),
        ];
        launch(
            &DROPOUT,
            "dropout_backward",
            dx.device(),
            Grid::elements(n),
            &args,
        )
    }
}
