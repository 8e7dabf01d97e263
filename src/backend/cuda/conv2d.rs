//! Convolutions on CUDA: by cuDNN with the feature `cudnn`, else by unfolding; and what chooses channels.

#[cfg(feature = "cudnn")]
mod cudnn;
mod unfolded;

use dfdx::tensor::Cuda;

use super::check_len as check;
use crate::backend::conv2d::{check_importances, check_len};
use crate::backend::Conv2DKernel;
use crate::bridge::cuda::calls::{
    launch, with_workspace, Arg, Grid, Slice, SliceMut, CHANNELS, SELECT,
};
use crate::bridge::{Kept, Ranking};
use crate::error::Result;
use crate::kernels::args::conv2d::{Conv2DShape, KeptGrad};
use crate::kernels::args::Fill;

const OP: &str = "conv2d";

fn check_grad(shape: &Conv2DShape, dy: &KeptGrad<Slice<f32>, Slice<u32>>) -> Result<()> {
    check_len("dy", dy.data.len(), &shape.y(dy.channels(shape.c_out())))
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
        check_grad(shape, &dy)?;
        check_len("weight", weight.len(), &shape.weight())?;
        check_len("dx", dx.len(), &shape.x())?;
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
        check_grad(shape, &dy)?;
        check_len("x", x.len(), &shape.x())?;
        check_len("dw", dw.len(), &shape.weight())?;
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
        check_grad(shape, &dy)?;
        check_len("db", db.len(), &[shape.c_out()])?;
        let channels = dy.channels(shape.c_out());
        let sizes = [shape.batch(), channels, shape.output_pixels()].map(Arg::Size);
        let memory = [dy.data.into(), dy.kept.into(), (&db).into()];
        let args = [&memory[..], &sizes].concat();
        let grid = Grid::blocks(channels, 256);
        launch(&CHANNELS, "channel_bias", db.device(), grid, &args)
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
        let to = Self::importance_mut(&mut importance);
        let sizes = [batch, channels, pixels].map(Arg::Size);
        let args = [&[dy.into(), (&to).into()][..], &sizes].concat();
        let grid = Grid::blocks(channels, 256);
        launch(&CHANNELS, "channel_importance", dy.device(), grid, &args)?;
        Ok(importance)
    }

    fn largest(&self, importance: Self::Importance, n: usize, count: usize) -> Result<Self::Kept> {
        let from = importance.view();
        check_importances(from.len(), n)?;
        let device = from.device();
        Kept::chosen(self, count.min(n), |indices| {
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
        check(OP, "kept channels of dy", n, batch * count * pixels)?;
        let sizes = [n, channels, count, pixels].map(Arg::Size);
        let args = [&[dy.into(), kept.into(), (&shrunk).into()][..], &sizes].concat();
        let grid = Grid::elements(n);
        launch(&CHANNELS, "gather_channels", dy.device(), grid, &args)
    }

    fn column_importance(&self, dy: Slice<f32>, columns: usize) -> Result<Self::Importance> {
        let rows = dy.len() / columns.max(1);
        check(OP, "dy", dy.len(), rows * columns)?;
        let mut importance = self.take_importance(columns)?;
        let to = Self::importance_mut(&mut importance);
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
