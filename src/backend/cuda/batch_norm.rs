//! Batch normalisation on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::BatchNorm2DKernel;
use crate::bridge::cuda::calls::{launch, with_workspace, Arg, Grid, Slice, SliceMut, BATCH_NORM};
use crate::error::{Error, Result};
use crate::kernels::args::batch_norm::{
    Activation, AllRanks, BatchNorm2DOp, Input, Saved, Statistics,
};
use crate::kernels::args::{Fill, ImageDims};

const OP: &str = "batch_norm2d";
/// Threads of a block that takes a chunk.
const THREADS: u32 = 256;
/// Elements of a chunk, at least.
const CHUNK: usize = 4096;
/// Chunks of a channel, at most: one thread adds up what they sum.
const MOST_CHUNKS: usize = 64;

/// The sizes that the kernels go by.
#[derive(Clone, Copy)]
struct Sizes {
    channels: usize,
    plane: usize,
    /// Elements of a channel.
    count: usize,
    /// How many of them a block takes.
    chunk: usize,
}

impl Sizes {
    fn of(dims: ImageDims) -> Self {
        let count = dims.batch * dims.plane;
        Self {
            channels: dims.channels,
            plane: dims.plane,
            count,
            chunk: count.div_ceil(MOST_CHUNKS).max(CHUNK),
        }
    }

    /// All channels' chunks.
    fn chunks(&self) -> usize {
        self.channels * self.count.div_ceil(self.chunk)
    }

    /// Launches a kernel with a block a chunk.
    fn launch_chunks(&self, name: &'static str, device: i32, args: &[Arg]) -> Result<()> {
        let grid = Grid::blocks(self.chunks(), THREADS);
        launch(&BATCH_NORM, name, device, grid, args)
    }

    /// Launches a kernel with a thread a channel.
    fn launch_channels(&self, name: &'static str, device: i32, args: &[Arg]) -> Result<()> {
        launch(
            &BATCH_NORM,
            name,
            device,
            Grid::elements(self.channels),
            args,
        )
    }

    fn check_images(&self, what: &'static str, found: usize) -> Result<()> {
        check_len(OP, what, found, self.channels * self.count)
    }

    fn check_channels(&self, what: &'static str, found: usize) -> Result<()> {
        check_len(OP, what, found, self.channels)
    }
}

/// That a rank's statistics are its own: no kernel makes them in two parts.
fn check_alone(ranks: Option<AllRanks<'_>>) -> Result<()> {
    match ranks {
        None => Ok(()),
        Some(_) => Err(Error::parameter("synchronized", true, "false on CUDA")),
    }
}

impl BatchNorm2DKernel<f32> for Cuda {
    fn batch_norm2d_train(
        op: &BatchNorm2DOp,
        dims: ImageDims,
        input: Input<Slice<f32>>,
        [running_mean, running_var]: [SliceMut<f32>; 2],
        y: SliceMut<f32>,
        [mean, inv_std]: [SliceMut<f32>; 2],
        ranks: Option<AllRanks<'_>>,
    ) -> Result<()> {
        check_alone(ranks)?;
        let sizes = Sizes::of(dims);
        let Sizes {
            channels,
            plane,
            count,
            chunk,
        } = sizes;
        let device = y.device();
        sizes.check_images("x", input.x.len())?;
        sizes.check_channels("mean", mean.len())?;
        sizes.check_channels("inv_std", inv_std.len())?;
        sizes.check_channels("running mean", running_mean.len())?;
        sizes.check_channels("running variance", running_var.len())?;
        // Two doubles a chunk.
        with_workspace(device, 4 * sizes.chunks(), |workspace| {
            let partial = workspace.doubles();
            let moments = [
                input.x.into(),
                (&partial).into(),
                channels.into(),
                plane.into(),
                count.into(),
                chunk.into(),
            ];
            sizes.launch_chunks("batch_norm_moments", device, &moments)?;
            let statistics = [
                partial.shared().into(),
                (&mean).into(),
                (&inv_std).into(),
                (&running_mean).into(),
                (&running_var).into(),
                channels.into(),
                count.into(),
                chunk.into(),
                Arg::Double(op.eps),
                Arg::Double(op.momentum),
            ];
            sizes.launch_channels("batch_norm_statistics", device, &statistics)
        })?;
        forward(op, sizes, input, mean.shared(), inv_std.shared(), y)
    }

    fn batch_norm2d_eval(
        op: &BatchNorm2DOp,
        dims: ImageDims,
        input: Input<Slice<f32>>,
        [mean, var]: [Slice<f32>; 2],
        y: SliceMut<f32>,
        inv_std: SliceMut<f32>,
    ) -> Result<()> {
        let sizes = Sizes::of(dims);
        sizes.check_channels("running mean", mean.len())?;
        sizes.check_channels("running variance", var.len())?;
        sizes.check_channels("inv_std", inv_std.len())?;
        let args = [
            var.into(),
            (&inv_std).into(),
            sizes.channels.into(),
            Arg::Double(op.eps),
        ];
        sizes.launch_channels("batch_norm_inv_std", y.device(), &args)?;
        forward(op, sizes, input, mean, inv_std.shared(), y)
    }

    fn batch_norm2d_backward(
        op: &BatchNorm2DOp,
        statistics: Statistics,
        dims: ImageDims,
        saved: Saved<Slice<f32>>,
        dy: SliceMut<f32>,
        dx: Option<(SliceMut<f32>, Fill)>,
        importance: Option<SliceMut<f64>>,
        [dweight, dbias]: [SliceMut<f32>; 2],
        ranks: Option<AllRanks<'_>>,
    ) -> Result<()> {
        check_alone(ranks)?;
        let sizes = Sizes::of(dims);
        let Sizes {
            channels,
            plane,
            count,
            chunk,
        } = sizes;
        let device = dy.device();
        let Saved {
            x,
            y,
            weight,
            bias,
            mean,
            inv_std,
        } = saved;
        sizes.check_images("x", x.len())?;
        sizes.check_images("dy", dy.len())?;
        sizes.check_images("y", y.map_or(x.len(), |y| y.len()))?;
        sizes.check_images("dx", dx.as_ref().map_or(x.len(), |(dx, _)| dx.len()))?;
        for (what, found) in [
            ("weight", weight.len()),
            ("bias", bias.len()),
            ("mean", mean.len()),
            ("inv_std", inv_std.len()),
            ("dweight", dweight.len()),
            ("dbias", dbias.len()),
            (
                "importance",
                importance.as_ref().map_or(channels, |i| i.len()),
            ),
        ] {
            sizes.check_channels(what, found)?;
        }
        let relu = op.activation == Activation::ReLU;
        let normed = [weight, bias, mean, inv_std].map(Arg::from);
        let size_args = [channels, plane, count, chunk].map(Arg::from);
        // In doubles: two a chunk, two a channel.
        let parts = [2 * sizes.chunks(), 2 * channels];
        with_workspace(device, 2 * parts.iter().sum::<usize>(), |workspace| {
            let mut workspace = workspace.doubles();
            let (partial, correction) = workspace.split_at(parts[0]);

            let mut args: Vec<Arg> = vec![x.into(), y.into(), (&dy).into()];
            args.extend(normed);
            args.push((&partial).into());
            args.extend(size_args);
            args.push(relu.into());
            sizes.launch_chunks("batch_norm_backward_sums", device, &args)?;

            let args = [
                partial.shared().into(),
                inv_std.into(),
                (&dweight).into(),
                (&dbias).into(),
                (&correction).into(),
                channels.into(),
                count.into(),
                chunk.into(),
                (statistics == Statistics::Batch).into(),
            ];
            sizes.launch_channels("batch_norm_backward_params", device, &args)?;

            let (dx, fill) = match &dx {
                Some((dx, fill)) => (dx, *fill),
                None => (&dy, Fill::Overwrite),
            };
            let masked = !relu || y.is_some();
            let mut args = vec![x.into(), dy.shared().into(), dx.into()];
            args.extend(normed);
            args.push(correction.shared().into());
            args.push(importance.is_some().then_some(&partial).into());
            args.extend(size_args);
            args.push(masked.into());
            args.push(fill.into());
            sizes.launch_chunks("batch_norm_backward_dx", device, &args)?;

            let Some(importance) = importance else {
                return Ok(());
            };
            let args = [
                partial.shared().into(),
                (&importance).into(),
                channels.into(),
                count.into(),
                chunk.into(),
            ];
            sizes.launch_channels("batch_norm_importance", device, &args)
        })
    }
}

/// y = f(weight (x - mean) inv_std + bias + residual)
fn forward(
    op: &BatchNorm2DOp,
    sizes: Sizes,
    input: Input<Slice<f32>>,
    mean: Slice<f32>,
    inv_std: Slice<f32>,
    y: SliceMut<f32>,
) -> Result<()> {
    let Input {
        x,
        residual,
        weight,
        bias,
    } = input;
    sizes.check_images("x", x.len())?;
    sizes.check_images("residual", residual.map_or(x.len(), |r| r.len()))?;
    sizes.check_images("y", y.len())?;
    sizes.check_channels("weight", weight.len())?;
    sizes.check_channels("bias", bias.len())?;
    let args = [
        x.into(),
        residual.into(),
        weight.into(),
        bias.into(),
        mean.into(),
        inv_std.into(),
        (&y).into(),
        sizes.channels.into(),
        sizes.plane.into(),
        sizes.count.into(),
        sizes.chunk.into(),
        (op.activation == Activation::ReLU).into(),
    ];
    sizes.launch_chunks("batch_norm_forward", y.device(), &args)
}
