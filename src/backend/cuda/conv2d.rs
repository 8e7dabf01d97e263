//! Convolutions on CUDA: images unfolded to columns, and matrix products.
//!
//! Columns, outputs and their gradients are matrices whose columns are the pixels of several images: one
//! product for all of them, or one for each group. A batch whose columns take too much memory goes in parts.

use dfdx::tensor::Cuda;

use super::check_len as check;
use crate::backend::conv2d::{check_importances, check_len};
use crate::backend::Conv2DKernel;
use crate::bridge::cuda::calls::{
    launch, multiply, with_workspace, Arg, Grid, Matrix, Product, Slice, SliceMut, CHANNELS,
    CONV2D, ROWS, SELECT,
};
use crate::bridge::{Kept, Ranking};
use crate::error::Result;
use crate::kernels::args::conv2d::{Conv2DShape, KeptGrad};
use crate::kernels::args::Fill;

const OP: &str = "conv2d";

/// Elements of a part's columns and outputs: 256 MB.
const PART: usize = 1 << 26;

/// Some images of a batch, and the matrices that they become.
struct Part {
    /// Their range.
    images: std::ops::Range<usize>,
    /// Columns of every matrix: their output pixels.
    columns: usize,
}

impl Part {
    /// The images' elements in an array with `image` elements of each.
    fn of(&self, image: usize) -> std::ops::Range<usize> {
        self.images.start * image..self.images.end * image
    }
}

/// A convolution in parts.
struct Parts<'a> {
    shape: &'a Conv2DShape,
    /// Rows of the columns' matrix, C_in K K.
    rows: usize,
    /// Output channels of the other matrix.
    channels: usize,
    /// Images of a part; of the last one fewer.
    images: usize,
}

impl<'a> Parts<'a> {
    fn new(shape: &'a Conv2DShape, channels: usize) -> Self {
        let rows = shape.c_in() * shape.op().kernel * shape.op().kernel;
        let image = (rows + channels) * shape.output_pixels();
        Self {
            shape,
            rows,
            channels,
            images: (PART / image.max(1)).clamp(1, shape.batch().max(1)),
        }
    }

    fn iter(&self) -> impl Iterator<Item = Part> + '_ {
        (0..self.shape.batch()).step_by(self.images).map(|start| {
            let images = start..self.shape.batch().min(start + self.images);
            let columns = images.len() * self.shape.output_pixels();
            Part { images, columns }
        })
    }

    /// Elements of the columns of a part, and of its outputs.
    fn workspace(&self) -> [usize; 2] {
        let columns = self.images * self.shape.output_pixels();
        [self.rows * columns, self.channels * columns]
    }

    fn window(&self) -> [Arg; 8] {
        let (op, [h, w], [h_out, w_out]) =
            (self.shape.op(), self.shape.input(), self.shape.output());
        [
            op.kernel,
            op.stride,
            op.padding,
            op.dilation,
            h,
            w,
            h_out,
            w_out,
        ]
        .map(Arg::Size)
    }

    /// columns (C_in K K, images P) of x (images, C_in, H, W)
    fn unfold(&self, part: &Part, x: Slice<f32>, columns: &SliceMut<f32>) -> Result<()> {
        let n = self.rows * part.columns;
        let x = x.part(part.of(self.shape.c_in() * self.shape.input_pixels()));
        let sizes = [n, self.shape.c_in(), part.images.len()].map(Arg::Size);
        let args = [&[x.into(), columns.into()][..], &sizes, &self.window()].concat();
        launch(
            &CONV2D,
            "unfold",
            columns.device(),
            Grid::elements(n),
            &args,
        )
    }

    /// dx (images, C_in, H, W) (+)= the columns, each at its pixel
    fn fold(
        &self,
        part: &Part,
        columns: Slice<f32>,
        dx: &mut SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let dx = dx.part_mut(part.of(self.shape.c_in() * self.shape.input_pixels()));
        let n = dx.len();
        let sizes = [n, self.shape.c_in(), part.images.len()].map(Arg::Size);
        let memory = [columns.into(), (&dx).into()];
        let args = [&memory[..], &sizes, &[fill.into()], &self.window()].concat();
        launch(&CONV2D, "fold", dx.device(), Grid::elements(n), &args)
    }

    /// rows (channels, images P) of `dy` (images, n, P); those of no channel of `dy` are zeros.
    fn rows_of(
        &self,
        part: &Part,
        dy: KeptGrad<Slice<f32>, Slice<u32>>,
        rows: &SliceMut<f32>,
    ) -> Result<()> {
        let (pixels, device) = (self.shape.output_pixels(), rows.device());
        let channels = dy.channels(self.channels);
        let place = dy.kept.filter(|_| channels < self.channels);
        if place.is_some() {
            let n = self.channels * part.columns;
            let args = [rows.into(), n.into()];
            launch(&ROWS, "zero", device, Grid::elements(n), &args)?;
        }
        let dy = dy.data.part(part.of(channels * pixels));
        let sizes = [dy.len(), channels, part.images.len(), pixels].map(Arg::Size);
        let args = [&[dy.into(), place.into(), rows.into()][..], &sizes].concat();
        launch(
            &CONV2D,
            "rows_of_images",
            device,
            Grid::elements(dy.len()),
            &args,
        )
    }
}

/// The kept channels whose rows of the weight are copied together. Not with several groups: the host does not
/// know how many of each are kept. There all channels are multiplied, the dropped ones as zeros.
fn gathered<'a>(
    shape: &Conv2DShape,
    dy: &KeptGrad<Slice<'a, f32>, Slice<'a, u32>>,
) -> Option<Slice<'a, u32>> {
    dy.kept.filter(|_| shape.op().groups == 1)
}

fn check_grad(shape: &Conv2DShape, dy: &KeptGrad<Slice<f32>, Slice<u32>>) -> Result<()> {
    check_len("dy", dy.data.len(), &shape.y(dy.channels(shape.c_out())))
}

/// The matrices of consecutive groups, of `height` rows of `row` elements.
fn groups(data: Slice<'_, f32>, row: usize, height: usize) -> Matrix<'_> {
    Matrix {
        data,
        row,
        step: height * row,
        transposed: false,
    }
}

fn transposed(matrix: Matrix<'_>) -> Matrix<'_> {
    Matrix {
        transposed: true,
        ..matrix
    }
}

/// `count` products (m, k) x (k, n), one below the other.
fn products([m, k, n]: [usize; 3], count: usize, add: bool) -> Product {
    Product {
        m,
        n,
        k,
        row: n,
        step: m * n,
        count,
        add,
    }
}

impl Conv2DKernel<f32> for Cuda {
    // y (C_out, B P) = w (C_out, F) x columns (F, B P) + bias, with F = C_in / groups K K
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
        let parts = Parts::new(shape, shape.c_out());
        let (filter, height, pixels) =
            (shape.filter_len(), shape.group_out(), shape.output_pixels());
        let [columns, outputs] = parts.workspace();
        with_workspace(y.device(), columns + outputs, |mut memory| {
            let (columns, outputs) = memory.split_at(columns);
            for part in parts.iter() {
                parts.unfold(&part, x, &columns)?;
                multiply(
                    products([height, filter, part.columns], shape.op().groups, false),
                    groups(weight, filter, height),
                    groups(columns.shared(), part.columns, filter),
                    &outputs,
                )?;
                let y = y.part_mut(part.of(shape.c_out() * pixels));
                let sizes = [y.len(), shape.c_out(), part.images.len(), pixels].map(Arg::Size);
                let memory = [(&outputs).into(), bias.into(), (&y).into()];
                let args = [&memory[..], &sizes].concat();
                launch(
                    &CONV2D,
                    "images_of_rows",
                    y.device(),
                    Grid::elements(y.len()),
                    &args,
                )?;
            }
            Ok(())
        })
    }

    // columns (F, B P) = wT (F, kept) x dY (kept, B P), folded to dX
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
        let device = dx.device();
        let kept = gathered(shape, &dy);
        let parts = Parts::new(shape, kept.map_or(shape.c_out(), |kept| kept.len()));
        let (filter, height) = (shape.filter_len(), parts.channels / shape.op().groups);
        let [columns, rows] = parts.workspace();
        let filters = kept.map_or(0, |kept| kept.len() * filter);
        with_workspace(device, columns + rows + filters, |mut memory| {
            let (columns, mut rest) = memory.split_at(columns);
            let (rows, gathered) = rest.split_at(rows);
            if let Some(kept) = kept {
                let sizes = [filters, filter].map(Arg::Size);
                let memory = [weight.into(), kept.into(), (&gathered).into()];
                let args = [&memory[..], &sizes].concat();
                launch(&ROWS, "gather_rows", device, Grid::elements(filters), &args)?;
            }
            let weight = kept.map_or(weight, |_| gathered.shared());
            for part in parts.iter() {
                parts.rows_of(&part, dy, &rows)?;
                multiply(
                    products([filter, height, part.columns], shape.op().groups, false),
                    transposed(groups(weight, filter, height)),
                    groups(rows.shared(), part.columns, height),
                    &columns,
                )?;
                parts.fold(&part, columns.shared(), &mut dx, fill)?;
            }
            Ok(())
        })
    }

    // dW (kept, F) += dY (kept, B P) x columnsT (B P, F)
    fn conv2d_backward_weight(
        shape: &Conv2DShape,
        x: Slice<f32>,
        dy: KeptGrad<Slice<f32>, Slice<u32>>,
        dw: SliceMut<f32>,
    ) -> Result<()> {
        check_grad(shape, &dy)?;
        check_len("x", x.len(), &shape.x())?;
        check_len("dw", dw.len(), &shape.weight())?;
        let device = dw.device();
        let kept = gathered(shape, &dy);
        let parts = Parts::new(shape, kept.map_or(shape.c_out(), |kept| kept.len()));
        let (filter, height) = (shape.filter_len(), parts.channels / shape.op().groups);
        let [columns, rows] = parts.workspace();
        let filters = kept.map_or(0, |kept| kept.len() * filter);
        with_workspace(device, columns + rows + filters, |mut memory| {
            let (columns, mut rest) = memory.split_at(columns);
            let (rows, shrunk) = rest.split_at(rows);
            let to = kept.map_or(&dw, |_| &shrunk);
            for part in parts.iter() {
                parts.unfold(&part, x, &columns)?;
                parts.rows_of(&part, dy, &rows)?;
                let add = kept.is_none() || part.images.start > 0;
                multiply(
                    products([height, part.columns, filter], shape.op().groups, add),
                    groups(rows.shared(), part.columns, height),
                    transposed(groups(columns.shared(), part.columns, filter)),
                    to,
                )?;
            }
            let (Some(kept), true) = (kept, shape.batch() > 0) else {
                return Ok(());
            };
            let sizes = [filters, filter].map(Arg::Size);
            let memory = [(&shrunk).into(), kept.into(), (&dw).into()];
            let args = [&memory[..], &sizes].concat();
            launch(
                &ROWS,
                "scatter_rows",
                device,
                Grid::elements(filters),
                &args,
            )
        })
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
