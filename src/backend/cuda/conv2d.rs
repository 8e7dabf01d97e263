//! Convolutions on CUDA, by the first of four ways that suits the shape, and what chooses channels.

#[cfg(feature = "cudnn")]
mod cudnn;
mod pointwise;
mod products;
mod tiled;
mod unfolded;

use dfdx::tensor::Cuda;

use super::check_len as check;
use super::chunks::Chunks;
use crate::backend::conv2d::check_importances;
use crate::backend::Conv2DKernel;
use crate::bridge::cuda::calls::{
    launch, Arg, Grid, Slice, SliceMut, CHANNELS, CONV2D, ROWS, SELECT,
};
use crate::bridge::cuda::with_workspace;
use crate::bridge::{Kept, Ranking};
use crate::error::{Error, Result};
use crate::kernels::args::conv2d::{check_len, Conv2DShape, KeptGrad};
use crate::kernels::args::{Fill, ImageDims};

const OP: &str = "conv2d";

/// What cuDNN's and cuBLAS's kernels on tensor cores like the number of channels to be a multiple of.
const MULTIPLE: usize = 8;

/// Channels that one block chooses from (select.cu).
const ONE_BLOCK: usize = 1024;

/// Whether images are not so large that they go in parts: kernels and libraries count elements in 31 bits.
fn is_countable(shape: &Conv2DShape) -> bool {
    let elements = |sizes: [usize; 4]| sizes.iter().product::<usize>();
    elements(shape.x()).max(elements(shape.y(shape.c_out()))) <= i32::MAX as usize
}

/// dY with the number of its channels in memory, those of zeros among them.
#[derive(Clone, Copy)]
struct Gradient<'a> {
    dy: Slice<'a, f32>,
    kept: Option<Slice<'a, u32>>,
    channels: usize,
}

impl<'a> Gradient<'a> {
    fn new(shape: &Conv2DShape, dy: KeptGrad<Slice<'a, f32>, Slice<'a, u32>>) -> Result<Self> {
        let all = dy.channels(shape.c_out());
        let shrunk = Cuda::shrunk_channels(shape, all);
        let padded: usize = shape.y(shrunk).iter().product();
        let padded = dy.kept.is_some() && dy.data.len() == padded;
        let channels = if padded { shrunk } else { all };
        check_len("dy", dy.data.len(), &shape.y(channels))?;
        Ok(Self {
            dy: dy.data,
            kept: dy.kept,
            channels,
        })
    }
}

/// The rows `kept` of the weight, and zeros in further rows.
fn gather_rows(
    weight: Slice<f32>,
    kept: Slice<u32>,
    filter: usize,
    rows: &SliceMut<f32>,
) -> Result<()> {
    let sizes = [rows.len(), kept.len(), filter].map(Arg::Size);
    let args = [&[weight.into(), kept.into(), rows.into()][..], &sizes].concat();
    let grid = Grid::elements(rows.len());
    launch(&ROWS, "gather_rows", rows.device(), grid, &args)
}

/// The rows `kept` of dW += those of `rows`, which may have further ones.
fn scatter_rows(
    rows: Slice<f32>,
    kept: Slice<u32>,
    filter: usize,
    dw: &SliceMut<f32>,
) -> Result<()> {
    let n = kept.len() * filter;
    let sizes = [n, filter].map(Arg::Size);
    let args = [&[rows.into(), kept.into(), dw.into()][..], &sizes].concat();
    let grid = Grid::elements(n);
    launch(&ROWS, "scatter_rows", dw.device(), grid, &args)
}

/// y (B, C_out, P) += bias (C_out)
fn add_bias(shape: &Conv2DShape, bias: Slice<f32>, y: &SliceMut<f32>) -> Result<()> {
    let sizes = [y.len(), shape.c_out(), shape.output_pixels()].map(Arg::Size);
    let args = [&[bias.into(), y.into()][..], &sizes].concat();
    let grid = Grid::elements(y.len());
    launch(&CONV2D, "add_bias", y.device(), grid, &args)
}

/// dW += the sums of `count` parts (channels, filter), `step` elements from one to the next: of dY's channels.
fn add_parts(
    parts: Slice<f32>,
    [count, step]: [usize; 2],
    dy: Gradient,
    filter: usize,
    dw: &SliceMut<f32>,
) -> Result<()> {
    let n = dy.kept.map_or(dy.channels, |kept| kept.len()) * filter;
    let sizes = [n, filter, count, step].map(Arg::Size);
    let args = [&[parts.into(), dy.kept.into(), dw.into()][..], &sizes].concat();
    let grid = Grid::blocks(n.div_ceil(32), 256);
    launch(&ROWS, "add_parts", dw.device(), grid, &args)
}

impl Conv2DKernel<f32> for Cuda {
    fn conv2d_forward(
        shape: &Conv2DShape,
        x: Slice<f32>,
        weight: Slice<f32>,
        bias: Option<Slice<f32>>,
        mut y: SliceMut<f32>,
    ) -> Result<()> {
        check_len("x", x.len(), &shape.x())?;
        check_len("weight", weight.len(), &shape.weight())?;
        if let Some(bias) = bias {
            check_len("bias", bias.len(), &[shape.c_out()])?;
        }
        check_len("y", y.len(), &shape.y(shape.c_out()))?;
        if tiled::forward(shape, x, weight, bias, &y)?
            || pointwise::forward(shape, x, weight, bias, &y)?
        {
            return Ok(());
        }
        #[cfg(feature = "cudnn")]
        if cudnn::forward(shape, x, weight, bias, &y)? {
            return Ok(());
        }
        unfolded::forward(shape, x, weight, bias, &mut y)
    }

    fn conv2d_backward_input(
        shape: &Conv2DShape,
        weight: Slice<f32>,
        dy: KeptGrad<Slice<f32>, Slice<u32>>,
        mut dx: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let dy = Gradient::new(shape, dy)?;
        check_len("weight", weight.len(), &shape.weight())?;
        check_len("dx", dx.len(), &shape.x())?;
        if tiled::backward_input(shape, weight, dy, &dx, fill)?
            || pointwise::backward_input(shape, weight, dy, &dx, fill)?
        {
            return Ok(());
        }
        #[cfg(feature = "cudnn")]
        if cudnn::backward_input(shape, weight, dy, &dx, fill)? {
            return Ok(());
        }
        unfolded::backward_input(shape, weight, dy, &mut dx, fill)
    }

    fn conv2d_backward_weight(
        shape: &Conv2DShape,
        x: Slice<f32>,
        dy: KeptGrad<Slice<f32>, Slice<u32>>,
        dw: SliceMut<f32>,
    ) -> Result<()> {
        let dy = Gradient::new(shape, dy)?;
        check_len("x", x.len(), &shape.x())?;
        check_len("dw", dw.len(), &shape.weight())?;
        if tiled::backward_weight(shape, x, dy, &dw)?
            || pointwise::backward_weight(shape, x, dy, &dw)?
        {
            return Ok(());
        }
        #[cfg(feature = "cudnn")]
        if cudnn::backward_weight(shape, x, dy, &dw)? {
            return Ok(());
        }
        unfolded::backward_weight(shape, x, dy, &dw)
    }

    fn conv2d_backward_bias(
        shape: &Conv2DShape,
        dy: KeptGrad<Slice<f32>, Slice<u32>>,
        db: SliceMut<f32>,
    ) -> Result<()> {
        let dy = Gradient::new(shape, dy)?;
        check_len("db", db.len(), &[shape.c_out()])?;
        let dims = ImageDims {
            batch: shape.batch(),
            channels: dy.channels,
            plane: shape.output_pixels(),
        };
        Chunks::of(dims).bias(dy.dy, dy.kept, (&db).into())
    }

    fn channel_importance(
        &self,
        dy: Slice<f32>,
        channels: usize,
        pixels: usize,
    ) -> Result<Self::Importance> {
        let batch = dy.len() / (channels * pixels).max(1);
        check(OP, "dy", dy.len(), batch * channels * pixels)?;
        let mut importance = self.take_importance(channels)?;
        let chunks = Chunks::of(ImageDims {
            batch,
            channels,
            plane: pixels,
        });
        chunks.sums(dy, true, &chunks.importance(&mut importance)?)?;
        Ok(importance)
    }

    fn largest(&self, importance: Self::Importance, n: usize, count: usize) -> Result<Self::Kept> {
        check_importances(importance.channels(), n)?;
        let importance = match n <= ONE_BLOCK {
            true => importance,
            false => importance.means()?,
        };
        let written = importance.sums();
        let (from, chunks) = written.ok_or_else(|| Error::shape(OP, "importances", n, 0))?;
        let device = from.device();
        Kept::chosen(self, [count.min(n), n], |indices| {
            if n <= ONE_BLOCK {
                let sizes = [n, count, chunks[0], chunks[1]].map(Arg::Size);
                let args = [&[from.into(), indices.into()][..], &sizes].concat();
                let one = Grid::blocks(1, ONE_BLOCK as u32);
                return launch(&SELECT, "choose_few", device, one, &args);
            }
            with_workspace(device, n, |is_kept| {
                let is_kept = is_kept.words();
                let args = [from.into(), (&is_kept).into(), n.into(), count.into()];
                launch(&SELECT, "rank_channels", device, Grid::elements(n), &args)?;
                let args = [is_kept.shared().into(), indices.into(), n.into()];
                let one = Grid::blocks(1, 256);
                launch(&SELECT, "indices_of_kept", device, one, &args)
            })
        })
    }

    /// Of several groups the host does not know how many channels of each are kept.
    fn shrunk_channels(shape: &Conv2DShape, kept: usize) -> usize {
        let padded = kept.next_multiple_of(MULTIPLE);
        match shape.op().groups == 1 && padded <= shape.c_out() {
            true => padded,
            false => kept,
        }
    }

    fn gather_channels(
        dy: Slice<f32>,
        channels: usize,
        pixels: usize,
        kept: Slice<u32>,
        shrunk: SliceMut<f32>,
    ) -> Result<()> {
        let (n, count) = (shrunk.len(), kept.len());
        let batch = dy.len() / (channels * pixels).max(1);
        check(OP, "dy", dy.len(), batch * channels * pixels)?;
        let slots = n / (batch * pixels).max(1);
        check(
            OP,
            "kept channels of dy",
            n,
            batch * slots.max(count) * pixels,
        )?;
        let sizes = [n, channels, count, slots, pixels].map(Arg::Size);
        let args = [&[dy.into(), kept.into(), (&shrunk).into()][..], &sizes].concat();
        let grid = Grid::elements(n);
        launch(&CHANNELS, "gather_channels", dy.device(), grid, &args)
    }

    fn column_importance(&self, dy: Slice<f32>, columns: usize) -> Result<Self::Importance> {
        let rows = dy.len() / columns.max(1);
        check(OP, "dy", dy.len(), rows * columns)?;
        let mut importance = self.take_importance(columns)?;
        let to = importance.room([1, 1])?;
        let args = [dy.into(), (&to).into(), rows.into(), columns.into()];
        let grid = Grid::elements(columns);
        launch(&CHANNELS, "column_importance", dy.device(), grid, &args)?;
        Ok(importance)
    }

    fn mask_columns(
        dy: Slice<f32>,
        columns: usize,
        kept: Slice<u32>,
        masked: SliceMut<f32>,
    ) -> Result<()> {
        let n = masked.len();
        check(OP, "dy", dy.len(), n)?;
        let sizes = [n, columns, kept.len()].map(Arg::Size);
        let args = [&[dy.into(), kept.into(), (&masked).into()][..], &sizes].concat();
        let grid = Grid::elements(n);
        launch(&CHANNELS, "mask_columns", dy.device(), grid, &args)
    }

    fn zero_dropped(
        dy: SliceMut<f32>,
        channels: usize,
        pixels: usize,
        kept: Slice<u32>,
    ) -> Result<()> {
        let n = dy.len();
        let sizes = [n, channels, pixels, kept.len()].map(Arg::Size);
        let args = [&[(&dy).into(), kept.into()][..], &sizes].concat();
        let grid = Grid::elements(n);
        launch(&CHANNELS, "zero_dropped", dy.device(), grid, &args)
    }

    fn scale(dy: SliceMut<f32>, factor: f64) -> Result<()> {
        let args = [(&dy).into(), dy.len().into(), Arg::Float(factor as f32)];
        launch(
            &CHANNELS,
            "scale",
            dy.device(),
            Grid::elements(dy.len()),
            &args,
        )
    }
}
