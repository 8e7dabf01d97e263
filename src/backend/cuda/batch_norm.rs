//! Batch normalisation on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use super::chunks::Chunks;
use crate::backend::BatchNorm2DKernel;
use crate::bridge::cuda::calls::{launch, Arg, Grid, Slice, SliceMut, BATCH_NORM};
use crate::bridge::cuda::{with_workspace, Importance};
use crate::error::{Error, Result};
use crate::kernels::args::batch_norm::{
    Activation, AllRanks, BatchNorm2DOp, Input, Saved, Statistics,
};
use crate::kernels::args::{Fill, ImageDims};

const OP: &str = "batch_norm2d";

/// The channels' chunks, and the checks against them.
#[derive(Clone, Copy)]
struct Sizes(Chunks);

impl Sizes {
    fn of(dims: ImageDims) -> Self {
        Self(Chunks::of(dims))
    }

    /// Launches a kernel with a block a chunk.
    fn launch_chunks(&self, name: &'static str, device: i32, args: &[Arg]) -> Result<()> {
        self.0.launch(&BATCH_NORM, name, device, args)
    }

    fn check_images(&self, what: &'static str, found: usize) -> Result<()> {
        check_len(OP, what, found, self.0.channels * self.0.count)
    }

    fn check_input(&self, input: &Input<Slice<f32>>, y: &SliceMut<f32>) -> Result<()> {
        self.check_images("x", input.x.len())?;
        self.check_images("residual", input.residual.map_or(y.len(), |r| r.len()))?;
        self.check_images("y", y.len())?;
        self.check_channels("weight", input.weight.len())?;
        self.check_channels("bias", input.bias.len())
    }

    fn check_channels(&self, what: &'static str, found: usize) -> Result<()> {
        check_len(OP, what, found, self.0.channels)
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
        let device = y.device();
        sizes.check_input(&input, &y)?;
        sizes.check_channels("mean", mean.len())?;
        sizes.check_channels("inv_std", inv_std.len())?;
        sizes.check_channels("running mean", running_mean.len())?;
        sizes.check_channels("running variance", running_var.len())?;
        // Two doubles a chunk.
        with_workspace(device, 4 * sizes.0.total(), |workspace| {
            let partial = workspace.doubles();
            let moments = [&[input.x.into(), (&partial).into()][..], &sizes.0.args()].concat();
            sizes.launch_chunks("batch_norm_moments", device, &moments)?;
            let Input {
                x,
                residual,
                weight,
                bias,
            } = input;
            let memory = [
                partial.shared().into(),
                x.into(),
                residual.into(),
                weight.into(),
                bias.into(),
                (&mean).into(),
                (&inv_std).into(),
                (&running_mean).into(),
                (&running_var).into(),
                (&y).into(),
            ];
            let scalars = [
                Arg::Double(op.eps),
                Arg::Double(op.momentum),
                (op.activation == Activation::ReLU).into(),
            ];
            let train = [&memory[..], &sizes.0.args(), &scalars].concat();
            sizes.launch_chunks("batch_norm_train", device, &train)
        })
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
            sizes.0.channels.into(),
            Arg::Double(op.eps),
        ];
        let grid = Grid::elements(sizes.0.channels);
        launch(&BATCH_NORM, "batch_norm_inv_std", y.device(), grid, &args)?;
        forward(op, sizes, input, mean, inv_std.shared(), y)
    }

    fn batch_norm2d_backward(
        op: &BatchNorm2DOp,
        statistics: Statistics,
        dims: ImageDims,
        saved: Saved<Slice<f32>>,
        dy: SliceMut<f32>,
        dx: Option<(SliceMut<f32>, Fill)>,
        importance: Option<&mut Importance>,
        [dweight, dbias]: [SliceMut<f32>; 2],
        ranks: Option<AllRanks<'_>>,
    ) -> Result<()> {
        check_alone(ranks)?;
        let sizes = Sizes::of(dims);
        let channels = dims.channels;
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
                importance.as_ref().map_or(channels, |i| i.channels()),
            ),
        ] {
            sizes.check_channels(what, found)?;
        }
        let relu = op.activation == Activation::ReLU;
        let normed = [weight, bias, mean, inv_std].map(Arg::from);
        let size_args = sizes.0.args();
        let magnitudes = importance.map(|of| sizes.0.importance(of)).transpose()?;
        // Two doubles a chunk.
        with_workspace(device, 4 * sizes.0.total(), |workspace| {
            let partial = workspace.doubles();

            let mut args: Vec<Arg> = vec![x.into(), y.into(), (&dy).into()];
            args.extend(normed);
            args.push((&partial).into());
            args.extend(size_args);
            args.push(relu.into());
            sizes.launch_chunks("batch_norm_backward_sums", device, &args)?;

            let (dx, fill) = match &dx {
                Some((dx, fill)) => (dx, *fill),
                None => (&dy, Fill::Overwrite),
            };
            let masked = !relu || y.is_some();
            let mut args = vec![
                partial.shared().into(),
                x.into(),
                dy.shared().into(),
                dx.into(),
            ];
            args.extend(normed);
            args.extend([&dweight, &dbias].map(Arg::from));
            args.push(magnitudes.as_ref().into());
            args.extend(size_args);
            args.push((statistics == Statistics::Batch).into());
            args.push(masked.into());
            args.push(fill.into());
            sizes.launch_chunks("batch_norm_backward_dx", device, &args)
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
    sizes.check_input(&input, &y)?;
    let Input {
        x,
        residual,
        weight,
        bias,
    } = input;
    let memory = [
        x.into(),
        residual.into(),
        weight.into(),
        bias.into(),
        mean.into(),
        inv_std.into(),
        (&y).into(),
    ];
    let relu = [(op.activation == Activation::ReLU).into()];
    let args = [&memory[..], &sizes.0.args(), &relu].concat();
    sizes.launch_chunks("batch_norm_forward", y.device(), &args)
}
