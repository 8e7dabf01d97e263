//! Group normalisation on CUDA.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::GroupNormKernel;
use crate::bridge::cuda::calls::{launch, Arg, Grid, Slice, SliceMut, GROUP_NORM};
use crate::bridge::cuda::{with_workspace, Importance};
use crate::error::Result;
use crate::kernels::args::group_norm::{Activation, Grads, GroupNormOp, Input, Saved};
use crate::kernels::args::{Fill, ImageDims};

const OP: &str = "group_norm";
/// Threads of a block.
const THREADS: u32 = 256;

fn check(
    dims: ImageDims,
    images: &[(&'static str, usize)],
    channels: &[(&'static str, usize)],
    groups: &[(&'static str, usize)],
    groups_of_image: usize,
) -> Result<()> {
    let ImageDims {
        batch,
        channels: c,
        plane,
    } = dims;
    let of = |named: &[(&'static str, usize)], expected: usize| {
        let mut named = named.iter();
        named.try_for_each(|&(what, found)| check_len(OP, what, found, expected))
    };
    of(images, batch * c * plane)?;
    of(channels, c)?;
    of(groups, batch * groups_of_image)
}

impl GroupNormKernel<f32> for Cuda {
    fn group_norm_forward(
        op: &GroupNormOp,
        dims: ImageDims,
        groups: usize,
        input: Input<Slice<f32>>,
        y: SliceMut<f32>,
        [mean, inv_std]: [SliceMut<f32>; 2],
    ) -> Result<()> {
        let Input {
            x,
            shift,
            weight,
            bias,
        } = input;
        check(
            dims,
            &[("x", x.len()), ("y", y.len())],
            &[("weight", weight.len()), ("bias", bias.len())],
            &[("mean", mean.len()), ("inv_std", inv_std.len())],
            groups,
        )?;
        let places = dims.batch * dims.channels;
        check_len(OP, "shift", shift.map_or(places, |s| s.len()), places)?;
        if x.is_empty() {
            return Ok(());
        }
        let args = [
            x.into(),
            shift.into(),
            weight.into(),
            bias.into(),
            (&y).into(),
            (&mean).into(),
            (&inv_std).into(),
            dims.channels.into(),
            (dims.channels / groups).into(),
            dims.plane.into(),
            Arg::Double(op.eps),
            (op.activation == Activation::SiLU).into(),
        ];
        let grid = Grid::blocks(dims.batch * groups, THREADS);
        launch(&GROUP_NORM, "group_norm_forward", y.device(), grid, &args)
    }

    fn group_norm_backward(
        dims: ImageDims,
        groups: usize,
        saved: Saved<Slice<f32>>,
        dy: Slice<f32>,
        (dx, fill): (SliceMut<f32>, Fill),
        grads: Grads<SliceMut<f32>, &mut Importance>,
        [dweight, dbias]: [SliceMut<f32>; 2],
    ) -> Result<()> {
        let Saved {
            input,
            y,
            mean,
            inv_std,
        } = saved;
        let Input {
            x,
            shift,
            weight,
            bias,
        } = input;
        let Grads { importance, dshift } = grads;
        check(
            dims,
            &[("x", x.len()), ("dy", dy.len()), ("dx", dx.len())],
            &[
                ("weight", weight.len()),
                ("bias", bias.len()),
                ("dweight", dweight.len()),
                ("dbias", dbias.len()),
                (
                    "importance",
                    importance.as_ref().map_or(dims.channels, |i| i.channels()),
                ),
            ],
            &[("mean", mean.len()), ("inv_std", inv_std.len())],
            groups,
        )?;
        let places = dims.batch * dims.channels;
        check_len(OP, "shift", shift.map_or(places, |s| s.len()), places)?;
        check_len(
            OP,
            "dshift",
            dshift.as_ref().map_or(places, SliceMut::len),
            places,
        )?;

        let importance = importance.map(|to| to.room([1, 1])).transpose()?;
        let device = dx.device();
        let group = dims.channels / groups.max(1);
        let warps = |count: usize| Grid::blocks(count.div_ceil(THREADS as usize / 32), THREADS);
        let read = [x, dy].map(Arg::from);
        let normed: [Arg; 5] = [
            shift.into(),
            weight.into(),
            bias.into(),
            mean.into(),
            inv_std.into(),
        ];
        let sizes = [places, dims.channels, group, dims.plane].map(Arg::from);
        let with_silu = Arg::from(y.is_some());
        // In doubles: four a place.
        with_workspace(device, 8 * places, |workspace| {
            let sums = workspace.doubles();

            let mut args = read.to_vec();
            args.extend(normed);
            args.push((&sums).into());
            args.extend(sizes);
            args.push(with_silu);
            launch(
                &GROUP_NORM,
                "group_norm_backward_sums",
                device,
                warps(places),
                &args,
            )?;

            let mut args = read.to_vec();
            args.extend(normed);
            args.push((&sums).into());
            args.push((&dx).into());
            args.push(dshift.as_ref().into());
            args.extend(sizes);
            args.push(with_silu);
            args.push(fill.into());
            launch(
                &GROUP_NORM,
                "group_norm_backward_dx",
                device,
                warps(places),
                &args,
            )?;

            let args = [
                sums.shared().into(),
                inv_std.into(),
                (&dweight).into(),
                (&dbias).into(),
                importance.as_ref().into(),
                dims.batch.into(),
                dims.channels.into(),
                group.into(),
                dims.plane.into(),
            ];
            let grid = warps(dims.channels);
            launch(
                &GROUP_NORM,
                "group_norm_backward_params",
                device,
                grid,
                &args,
            )
        })
    }
}
