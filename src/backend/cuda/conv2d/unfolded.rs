//! Convolutions on CUDA by unfolding images to columns, and matrix products: what works for every shape.
//!
//! Columns, outputs and their gradients are matrices whose columns are the pixels of several images: one
//! product for all of them, or one for each group. A batch whose columns take too much memory goes in parts.

use super::products::{matrices, products, transposed};
use super::{gather_rows, scatter_rows, Gradient};
use crate::bridge::cuda::calls::{launch, multiply, Arg, Grid, Slice, SliceMut, CONV2D, ROWS};
use crate::bridge::cuda::with_workspace;
use crate::error::Result;
use crate::kernels::args::conv2d::Conv2DShape;
use crate::kernels::args::Fill;

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
    fn rows_of(&self, part: &Part, dy: Gradient, rows: &SliceMut<f32>) -> Result<()> {
        let (pixels, device) = (self.shape.output_pixels(), rows.device());
        let place = dy.kept.filter(|_| dy.channels < self.channels);
        if place.is_some() {
            let n = self.channels * part.columns;
            let args = [rows.into(), n.into()];
            launch(&ROWS, "zero", device, Grid::elements(n), &args)?;
        }
        let data = dy.dy.part(part.of(dy.channels * pixels));
        let sizes = [data.len(), dy.channels, part.images.len(), pixels].map(Arg::Size);
        let args = [&[data.into(), place.into(), rows.into()][..], &sizes].concat();
        launch(
            &CONV2D,
            "rows_of_images",
            device,
            Grid::elements(data.len()),
            &args,
        )
    }
}

/// The kept channels whose rows of the weight are copied together. Not with several groups: the host does not
/// know how many of each are kept. There all channels are multiplied, the dropped ones as zeros.
fn gathered<'a>(shape: &Conv2DShape, dy: &Gradient<'a>) -> Option<Slice<'a, u32>> {
    dy.kept.filter(|_| shape.op().groups == 1)
}

// y (C_out, B P) = w (C_out, F) x columns (F, B P) + bias, with F = C_in / groups K K
pub(super) fn forward(
    shape: &Conv2DShape,
    x: Slice<f32>,
    weight: Slice<f32>,
    bias: Option<Slice<f32>>,
    y: &mut SliceMut<f32>,
) -> Result<()> {
    let parts = Parts::new(shape, shape.c_out());
    let (filter, height, pixels) = (shape.filter_len(), shape.group_out(), shape.output_pixels());
    let [columns, outputs] = parts.workspace();
    with_workspace(y.device(), columns + outputs, |mut memory| {
        let (columns, outputs) = memory.split_at(columns);
        for part in parts.iter() {
            parts.unfold(&part, x, &columns)?;
            multiply(
                products([height, filter, part.columns], shape.op().groups, false),
                matrices(weight, filter, height),
                matrices(columns.shared(), part.columns, filter),
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
pub(super) fn backward_input(
    shape: &Conv2DShape,
    weight: Slice<f32>,
    dy: Gradient,
    dx: &mut SliceMut<f32>,
    fill: Fill,
) -> Result<()> {
    let device = dx.device();
    let kept = gathered(shape, &dy);
    let parts = Parts::new(shape, kept.map_or(shape.c_out(), |_| dy.channels));
    let (filter, height) = (shape.filter_len(), parts.channels / shape.op().groups);
    let [columns, rows] = parts.workspace();
    let filters = kept.map_or(0, |_| dy.channels * filter);
    with_workspace(device, columns + rows + filters, |mut memory| {
        let (columns, mut rest) = memory.split_at(columns);
        let (rows, gathered) = rest.split_at(rows);
        if let Some(kept) = kept {
            gather_rows(weight, kept, filter, &gathered)?;
        }
        let weight = kept.map_or(weight, |_| gathered.shared());
        for part in parts.iter() {
            parts.rows_of(&part, dy, &rows)?;
            multiply(
                products([filter, height, part.columns], shape.op().groups, false),
                transposed(matrices(weight, filter, height)),
                matrices(rows.shared(), part.columns, height),
                &columns,
            )?;
            parts.fold(&part, columns.shared(), dx, fill)?;
        }
        Ok(())
    })
}

// dW (kept, F) += dY (kept, B P) x columnsT (B P, F)
pub(super) fn backward_weight(
    shape: &Conv2DShape,
    x: Slice<f32>,
    dy: Gradient,
    dw: &SliceMut<f32>,
) -> Result<()> {
    let device = dw.device();
    let kept = gathered(shape, &dy);
    let parts = Parts::new(shape, kept.map_or(shape.c_out(), |_| dy.channels));
    let (filter, height) = (shape.filter_len(), parts.channels / shape.op().groups);
    let [columns, rows] = parts.workspace();
    let filters = kept.map_or(0, |_| dy.channels * filter);
    with_workspace(device, columns + rows + filters, |mut memory| {
        let (columns, mut rest) = memory.split_at(columns);
        let (rows, shrunk) = rest.split_at(rows);
        let to = kept.map_or(dw, |_| &shrunk);
        for part in parts.iter() {
            parts.unfold(&part, x, &columns)?;
            parts.rows_of(&part, dy, &rows)?;
            let add = kept.is_none() || part.images.start > 0;
            multiply(
                products([height, part.columns, filter], shape.op().groups, add),
                matrices(rows.shared(), part.columns, height),
                transposed(matrices(columns.shared(), part.columns, filter)),
                to,
            )?;
        }
        let (Some(kept), true) = (kept, shape.batch() > 0) else {
            return Ok(());
        };
        scatter_rows(shrunk.shared(), kept, filter, dw)
    })
}
