//! Layer normalisation on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::LayerNormKernel;
use crate::bridge::cuda::calls::{launch, Arg, Grid, Slice, SliceMut, LAYER_NORM};
use crate::error::Result;
use crate::kernels::args::layer_norm::{LayerNormOp, Saved};
use crate::kernels::args::{Fill, ImageDims};

const OP: &str = "layer_norm";
/// Threads of a block.
const THREADS: u32 = 256;

/// That memory is of these sizes: images, channels, positions.
fn check(dims: ImageDims, lens: [&[(&'static str, usize)]; 3]) -> Result<()> {
    let ImageDims {
        batch,
        channels,
        plane,
    } = dims;
    let sizes = [batch * channels * plane, channels, batch * plane];
    for (lens, expected) in lens.into_iter().zip(sizes) {
        for &(what, found) in lens {
            check_len(OP, what, found, expected)?;
        }
    }
    Ok(())
}

impl LayerNormKernel<f32> for Cuda {
    fn layer_norm_forward(
        op: &LayerNormOp,
        dims: ImageDims,
        x: Slice<f32>,
        weight: Slice<f32>,
        bias: Slice<f32>,
        y: SliceMut<f32>,
        [mean, inv_std]: [SliceMut<f32>; 2],
    ) -> Result<()> {
        let images = [("x", x.len()), ("y", y.len())];
        let of_channels = [("weight", weight.len()), ("bias", bias.len())];
        let positions = [("mean", mean.len()), ("inv_std", inv_std.len())];
        check(dims, [&images, &of_channels, &positions])?;
        let args = [
            x.into(),
            weight.into(),
            bias.into(),
            (&y).into(),
            (&mean).into(),
            (&inv_std).into(),
            mean.len().into(),
            dims.channels.into(),
            dims.plane.into(),
            Arg::Double(op.eps),
        ];
        let grid = Grid::elements(mean.len());
        launch(&LAYER_NORM, "layer_norm_forward", y.device(), grid, &args)
    }

    fn layer_norm_backward(
        dims: ImageDims,
        saved: Saved<Slice<f32>>,
        dy: Slice<f32>,
        (dx, fill): (SliceMut<f32>, Fill),
        [dweight, dbias]: [SliceMut<f32>; 2],
    ) -> Result<()> {
        let Saved {
            x,
            weight,
            mean,
            inv_std,
        } = saved;
        let images = [("x", x.len()), ("dy", dy.len()), ("dx", dx.len())];
        let of_channels = [
            ("weight", weight.len()),
            ("dweight", dweight.len()),
            ("dbias", dbias.len()),
        ];
        let positions = [("mean", mean.len()), ("inv_std", inv_std.len())];
        check(dims, [&images, &of_channels, &positions])?;
        let device = dx.device();
        let args = [
            x.into(),
            dy.into(),
            weight.into(),
            mean.into(),
            inv_std.into(),
            (&dx).into(),
            mean.len().into(),
            dims.channels.into(),
            dims.plane.into(),
            fill.into(),
        ];
        let grid = Grid::elements(mean.len());
        launch(&LAYER_NORM, "layer_norm_backward_dx", device, grid, &args)?;
        let args = [
            x.into(),
            dy.into(),
            mean.into(),
            inv_std.into(),
            (&dweight).into(),
            (&dbias).into(),
            mean.len().into(),
            dims.channels.into(),
            dims.plane.into(),
        ];
        let grid = Grid::blocks(dims.channels, THREADS);
        let name = "layer_norm_backward_params";
        launch(&LAYER_NORM, name, device, grid, &args)
    }
}
