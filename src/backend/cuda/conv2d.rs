//! Convolutions on CUDA: images unfolded to columns, and matrix products.
//!
//! Columns, outputs and their gradients are matrices whose columns are the pixels of several images: one
//! product for all of them, or one for each group. A batch whose columns take too much memory goes in parts.

use dfdx::tensor::Cuda;

use super::{check_len as check, with_kept};
use crate::backend::conv2d::{check_grad, check_len};
use crate::backend::Conv2DKernel;
use crate::error::Result;
use crate::kernels::args::conv2d::{Conv2DShape, OutputGrad};
use crate::kernels::args::Fill;
use crate::kernels::cuda::{
    download, indices, launch, multiply, with_workspace, Arg, Grid, Matrix, Product, Slice,
    SliceMut, CHANNELS, CONV2D, ROWS,
};

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

    /// rows (channels, images P) of dy (images, channels, P)
    fn rows_of(&self, part: &Part, dy: Slice<f32>, rows: &SliceMut<f32>) -> Result<()> {
        let pixels = self.shape.output_pixels();
        let dy = dy.part(part.of(self.channels * pixels));
        let sizes = [dy.len(), self.channels, part.images.len(), pixels].map(Arg::Size);
        let args = [&[dy.into(), rows.into()][..], &sizes].concat();
        launch(
            &CONV2D,
            "rows_of_images",
            rows.device(),
            Grid::elements(dy.len()),
            &args,
        )
    }

    /// The groups as batches of products: for all of them at once if every channel is there, else for each
    /// by itself. For each batch its first group, its first row of the gradient, the gradient's rows of a
    /// group, and the number of groups.
    fn batches(&self, kept: Option<&[usize]>) -> Vec<[usize; 4]> {
        let groups = self.shape.op().groups;
        if kept.is_none() {
            return vec![[0, 0, self.shape.group_out(), groups]];
        }
        let slots = |group| (group, self.shape.slots(kept, group));
        let groups = (0..groups).map(slots);
        groups
            .map(|(group, slots)| [group, slots.start, slots.len(), 1])
            .collect()
    }
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
        dy: OutputGrad<'_, Slice<f32>>,
        mut dx: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        check_grad(shape, dy.data.len(), dy.kept)?;
        check_len("weight", weight.len(), &shape.weight())?;
        check_len("dx", dx.len(), &shape.x())?;
        let device = dx.device();
        let channels = dy.channels(shape.c_out());
        let parts = Parts::new(shape, channels);
        let filter = shape.filter_len();
        let [columns, rows] = parts.workspace();
        let filters = dy.kept.map_or(0, |kept| kept.len() * filter);
        with_workspace(device, columns + rows + filters, |mut memory| {
            let (mut columns, mut rest) = memory.split_at(columns);
            let (rows, gathered) = rest.split_at(rows);
            if let Some(kept) = dy.kept {
                indices(device, kept, |kept| {
                    let sizes = [filters, filter].map(Arg::Size);
                    let memory = [weight.into(), kept.into(), (&gathered).into()];
                    let args = [&memory[..], &sizes].concat();
                    launch(&ROWS, "gather_rows", device, Grid::elements(filters), &args)
                })?;
            }
            let weight = dy.kept.map_or(weight, |_| gathered.shared());
            for part in parts.iter() {
                parts.rows_of(&part, dy.data, &rows)?;
                for [group, slot, height, count] in parts.batches(dy.kept) {
                    let of_group = filter * part.columns;
                    let columns = columns.part_mut(group * of_group..(group + count) * of_group);
                    if height == 0 {
                        let args = [(&columns).into(), of_group.into()];
                        launch(&ROWS, "zero", device, Grid::elements(of_group), &args)?;
                        continue;
                    }
                    let end = slot + height * count;
                    let weight = weight.part(slot * filter..end * filter);
                    let rows = rows.shared().part(slot * part.columns..end * part.columns);
                    multiply(
                        products([filter, height, part.columns], count, false),
                        transposed(groups(weight, filter, height)),
                        groups(rows, part.columns, height),
                        &columns,
                    )?;
                }
                parts.fold(&part, columns.shared(), &mut dx, fill)?;
            }
            Ok(())
        })
    }

    // dW (kept, F) += dY (kept, B P) x columnsT (B P, F)
    fn conv2d_backward_weight(
        shape: &Conv2DShape,
        x: Slice<f32>,
        dy: OutputGrad<'_, Slice<f32>>,
        mut dw: SliceMut<f32>,
    ) -> Result<()> {
        check_grad(shape, dy.data.len(), dy.kept)?;
        check_len("x", x.len(), &shape.x())?;
        check_len("dw", dw.len(), &shape.weight())?;
        let device = dw.device();
        let parts = Parts::new(shape, dy.channels(shape.c_out()));
        let filter = shape.filter_len();
        let [columns, rows] = parts.workspace();
        let filters = dy.kept.map_or(0, |kept| kept.len() * filter);
        with_workspace(device, columns + rows + filters, |mut memory| {
            let (columns, mut rest) = memory.split_at(columns);
            let (rows, mut shrunk) = rest.split_at(rows);
            for part in parts.iter() {
                parts.unfold(&part, x, &columns)?;
                parts.rows_of(&part, dy.data, &rows)?;
                for [group, slot, height, count] in parts.batches(dy.kept) {
                    let end = slot + height * count;
                    let of_group = filter * part.columns;
                    let columns = columns.shared();
                    let columns = columns.part(group * of_group..(group + count) * of_group);
                    let rows = rows.shared().part(slot * part.columns..end * part.columns);
                    let filters = slot * filter..end * filter;
                    let to = match dy.kept {
                        None => dw.part_mut(filters),
                        Some(_) => shrunk.part_mut(filters),
                    };
                    multiply(
                        products(
                            [height, part.columns, filter],
                            count,
                            dy.kept.is_none() || part.images.start > 0,
                        ),
                        groups(rows, part.columns, height),
                        transposed(groups(columns, part.columns, filter)),
                        &to,
                    )?;
                }
            }
            let (Some(kept), true) = (dy.kept, shape.batch() > 0) else {
                return Ok(());
            };
            indices(device, kept, |kept| {
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
        })
    }

    fn conv2d_backward_bias(
        shape: &Conv2DShape,
        dy: OutputGrad<'_, Slice<f32>>,
        db: SliceMut<f32>,
    ) -> Result<()> {
        check_grad(shape, dy.data.len(), dy.kept)?;
        check_len("db", db.len(), &[shape.c_out()])?;
        let channels = dy.channels(shape.c_out());
        with_kept(db.device(), dy.kept, |kept| {
            let sizes = [shape.batch(), channels, shape.output_pixels()].map(Arg::Size);
            let memory = [dy.data.into(), kept.into(), (&db).into()];
            let args = [&memory[..], &sizes].concat();
            launch(
                &CHANNELS,
                "channel_bias",
                db.device(),
                Grid::blocks(channels, 256),
                &args,
            )
        })
    }

    fn channel_importance(dy: Slice<f32>, channels: usize, pixels: usize) -> Result<Vec<f64>> {
        let batch = dy.len() / (channels * pixels).max(1);
        check(OP, "dy", dy.len(), batch * channels * pixels)?;
        with_workspace(dy.device(), 2 * channels, |sums| {
            let sums = sums.doubles();
            let sizes = [batch, channels, pixels].map(Arg::Size);
            let args = [&[dy.into(), (&sums).into()][..], &sizes].concat();
            let grid = Grid::blocks(channels, 256);
            launch(&CHANNELS, "channel_importance", dy.device(), grid, &args)?;
            download(sums.shared())
        })
    }

    fn gather_channels(
        dy: Slice<f32>,
        channels: usize,
        pixels: usize,
        kept: &[usize],
        shrunk: SliceMut<f32>,
    ) -> Result<()> {
        let (n, count) = (shrunk.len(), kept.len());
        let batch = dy.len() / (channels * pixels).max(1);
        check(OP, "dy", dy.len(), batch * channels * pixels)?;
        check(OP, "kept channels of dy", n, batch * count * pixels)?;
        indices(dy.device(), kept, |kept| {
            let sizes = [n, channels, count, pixels].map(Arg::Size);
            let args = [&[dy.into(), kept.into(), (&shrunk).into()][..], &sizes].concat();
            launch(
                &CHANNELS,
                "gather_channels",
                dy.device(),
                Grid::elements(n),
                &args,
            )
        })
    }

    fn column_importance(dy: Slice<f32>, columns: usize) -> Result<Vec<f64>> {
        let rows = dy.len() / columns.max(1);
        check(OP, "dy", dy.len(), rows * columns)?;
        with_workspace(dy.device(), 2 * columns, |sums| {
            let sums = sums.doubles();
            let args = [dy.into(), (&sums).into(), rows.into(), columns.into()];
            let grid = Grid::elements(columns);
            launch(&CHANNELS, "column_importance", dy.device(), grid, &args)?;
            download(sums.shared())
        })
    }

    fn mask_columns(
        dy: Slice<f32>,
        columns: usize,
        kept: &[usize],
        masked: SliceMut<f32>,
    ) -> Result<()> {
        let (n, count) = (masked.len(), kept.len());
        check(OP, "dy", dy.len(), n)?;
        indices(dy.device(), kept, |kept| {
            let sizes = [n, columns, count].map(Arg::Size);
            let args = [&[dy.into(), kept.into(), (&masked).into()][..], &sizes].concat();
            launch(
                &CHANNELS,
                "mask_columns",
                dy.device(),
                Grid::elements(n),
                &args,
            )
        })
    }

    fn zero_dropped(
        dy: SliceMut<f32>,
        channels: usize,
        pixels: usize,
        kept: &[usize],
    ) -> Result<()> {
        let (n, count) = (dy.len(), kept.len());
        indices(dy.device(), kept, |kept| {
            let sizes = [n, channels, pixels, count].map(Arg::Size);
            let args = [&[(&dy).into(), kept.into()][..], &sizes].concat();
            launch(
                &CHANNELS,
                "zero_dropped",
                dy.device(),
                Grid::elements(n),
                &args,
            )
        })
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
