//! Pooling on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::Pool2DKernel;
use crate::bridge::cuda::calls::{launch, Arg, Grid, Slice, SliceMut, POOL};
use crate::error::Result;
use crate::kernels::args::pool::Pool2DOp;
use crate::kernels::args::Fill;

const OP: &str = "pool2d";
/// Threads of a block, at most.
const THREADS: usize = 256;

/// How many planes there are, which have to agree in input and output.
fn planes(op: &Pool2DOp, input: usize, output: usize) -> Result<usize> {
    let planes = input / (op.input[0] * op.input[1]).max(1);
    check_len(
        OP,
        "elements of the images",
        input,
        planes * op.input[0] * op.input[1],
    )?;
    check_len(
        OP,
        "elements of the pooled images",
        output,
        planes * op.output[0] * op.output[1],
    )?;
    Ok(planes)
}

/// A block a plane, each of whose threads takes some of `elements`.
fn grid(planes: usize, elements: [usize; 2]) -> Grid {
    let threads = (elements[0] * elements[1]).next_multiple_of(32);
    Grid::blocks(planes, threads.clamp(32, THREADS) as u32)
}

/// A warp a plane.
fn warps(planes: usize) -> Grid {
    Grid::blocks(planes.div_ceil(THREADS / 32), THREADS as u32)
}

/// The sizes of a kernel with windows, behind the memory.
fn sizes(op: &Pool2DOp) -> [Arg; 7] {
    let &Pool2DOp {
        kernel,
        stride,
        padding,
        input: [h, w],
        output: [out_h, out_w],
    } = op;
    [kernel, stride, padding, h, w, out_h, out_w].map(Arg::from)
}

impl Pool2DKernel<f32> for Cuda {
    fn max_pool2d_forward(
        op: &Pool2DOp,
        x: Slice<f32>,
        y: SliceMut<f32>,
        argmax: Option<SliceMut<f32>>,
    ) -> Result<()> {
        let planes = planes(op, x.len(), y.len())?;
        check_len(
            OP,
            "argmax",
            argmax.as_ref().map_or(y.len(), SliceMut::len),
            y.len(),
        )?;
        let mut args = vec![x.into(), (&y).into(), argmax.as_ref().into()];
        args.extend(sizes(op));
        launch(
            &POOL,
            "max_pool_forward",
            y.device(),
            grid(planes, op.output),
            &args,
        )
    }

    fn max_pool2d_backward(
        op: &Pool2DOp,
        argmax: Slice<f32>,
        dy: Slice<f32>,
        dx: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let planes = planes(op, dx.len(), dy.len())?;
        check_len(OP, "argmax", argmax.len(), dy.len())?;
        let mut args = vec![argmax.into(), dy.into(), (&dx).into()];
        args.extend(sizes(op));
        args.push(fill.into());
        launch(
            &POOL,
            "max_pool_backward",
            dx.device(),
            grid(planes, op.input),
            &args,
        )
    }

    fn avg_pool2d_forward(op: &Pool2DOp, x: Slice<f32>, y: SliceMut<f32>) -> Result<()> {
        let planes = planes(op, x.len(), y.len())?;
        let mut args = vec![x.into(), (&y).into()];
        args.extend(sizes(op));
        launch(
            &POOL,
            "avg_pool_forward",
            y.device(),
            grid(planes, op.output),
            &args,
        )
    }

    fn avg_pool2d_backward(
        op: &Pool2DOp,
        dy: Slice<f32>,
        dx: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let planes = planes(op, dx.len(), dy.len())?;
        let mut args = vec![dy.into(), (&dx).into()];
        args.extend(sizes(op));
        args.push(fill.into());
        launch(
            &POOL,
            "avg_pool_backward",
            dx.device(),
            grid(planes, op.input),
            &args,
        )
    }

    fn global_avg_pool2d_forward(plane: usize, x: Slice<f32>, y: SliceMut<f32>) -> Result<()> {
        let planes = y.len();
        check_len(OP, "elements of the images", x.len(), planes * plane)?;
        let args = [x.into(), (&y).into(), planes.into(), plane.into()];
        launch(
            &POOL,
            "global_avg_pool_forward",
            y.device(),
            warps(planes),
            &args,
        )
    }

    fn global_avg_pool2d_backward(
        plane: usize,
        dy: Slice<f32>,
        dx: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let planes = dy.len();
        check_len(OP, "elements of the images", dx.len(), planes * plane)?;
        let args = [
            dy.into(),
            (&dx).into(),
            planes.into(),
            plane.into(),
            fill.into(),
        ];
        launch(
            &POOL,
            "global_avg_pool_backward",
            dx.device(),
            warps(planes),
            &args,
        )
    }
}
