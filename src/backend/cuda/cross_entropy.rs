//! The cross entropy on CUDA.

use dfdx::tensor::Cuda;

use crate::backend::cross_entropy::rows;
use crate::backend::CrossEntropyKernel;
use crate::bridge::cuda::calls::{launch, Grid, Slice, SliceMut, CROSS_ENTROPY};
use crate::bridge::cuda::with_workspace;
use crate::error::Result;
use crate::kernels::args::Fill;

/// Threads of a block: 8 rows.
const THREADS: u32 = 256;

/// A warp for each of `rows` rows.
fn warps(rows: usize) -> Grid {
    Grid::blocks(rows.div_ceil(THREADS as usize / 32), THREADS)
}

impl CrossEntropyKernel<f32> for Cuda {
    fn cross_entropy_forward(
        classes: usize,
        x: Slice<f32>,
        target: Slice<f32>,
        y: SliceMut<f32>,
    ) -> Result<()> {
        let rows = rows(classes, x.len(), &[target.len()], y.len())?;
        let device = y.device();
        with_workspace(device, 2 * rows.max(1), |losses| {
            let losses = losses.doubles();
            let memory = [x.into(), target.into(), (&losses).into()];
            let args = [&memory[..], &[rows.into(), classes.into()]].concat();
            launch(
                &CROSS_ENTROPY,
                "cross_entropy_rows",
                device,
                warps(rows),
                &args,
            )?;
            let args = [losses.shared().into(), (&y).into(), rows.into()];
            let grid = Grid::blocks(1, THREADS);
            launch(&CROSS_ENTROPY, "cross_entropy_mean", device, grid, &args)
        })
    }

    fn cross_entropy_backward(
        classes: usize,
        x: Slice<f32>,
        target: Slice<f32>,
        dy: Slice<f32>,
        dx: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let rows = rows(classes, x.len(), &[target.len(), dx.len()], dy.len())?;
        let memory = [x.into(), target.into(), dy.into(), (&dx).into()];
        let args = [&memory[..], &[rows.into(), classes.into(), fill.into()]].concat();
        let name = "cross_entropy_backward";
        launch(&CROSS_ENTROPY, name, dx.device(), warps(rows), &args)
    }
}
