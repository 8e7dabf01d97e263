//! Distances on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::DistanceKernel;
use crate::bridge::cuda::calls::{launch, Grid, Slice, SliceMut, DISTANCE};
use crate::bridge::cuda::with_workspace;
use crate::error::Result;
use crate::kernels::args::distance::Distance;
use crate::kernels::args::Fill;

const OP: &str = "distance";

impl DistanceKernel<f32> for Cuda {
    fn distance_forward(
        distance: Distance,
        x: Slice<f32>,
        target: Slice<f32>,
        y: SliceMut<f32>,
    ) -> Result<()> {
        let n = x.len();
        check_len(OP, "target", target.len(), n)?;
        check_len(OP, "y", y.len(), 1)?;
        let squared = distance == Distance::L2;
        let grid = Grid::elements(n);
        with_workspace(y.device(), 2 * grid.count().max(1), |sums| {
            let sums = sums.doubles();
            let args = [
                x.into(),
                target.into(),
                (&sums).into(),
                n.into(),
                squared.into(),
            ];
            launch(&DISTANCE, "distance_sums", y.device(), grid, &args)?;
            let args = [(&sums).into(), (&y).into(), grid.count().into(), n.into()];
            launch(
                &DISTANCE,
                "distance_mean",
                y.device(),
                Grid::blocks(1, 256),
                &args,
            )
        })
    }

    fn distance_backward(
        distance: Distance,
        x: Slice<f32>,
        target: Slice<f32>,
        dy: Slice<f32>,
        dx: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let n = dx.len();
        check_len(OP, "x", x.len(), n)?;
        check_len(OP, "target", target.len(), n)?;
        check_len(OP, "dy", dy.len(), 1)?;
        let squared = distance == Distance::L2;
        let memory = [x.into(), target.into(), dy.into(), (&dx).into()];
        let args = [&memory[..], &[n.into(), squared.into(), fill.into()]].concat();
        launch(
            &DISTANCE,
            "distance_backward",
            dx.device(),
            Grid::elements(n),
            &args,
        )
    }
}
