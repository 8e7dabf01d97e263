//! Convolutions of 1x1 windows with stride 1 on CUDA: a product of matrices for each image, all by one call of cuBLAS,
//! from images as they are. cuDNN would change the layout of all that goes in and out first. Each function says whether
//! it suits the shape; if not, nothing is done.

use super::products::{matrices, products, transposed};
use super::{add_bias, add_parts, gather_rows, is_countable, Gradient};
use crate::bridge::cuda::calls::{multiply, Matrix, Slice, SliceMut};
use crate::bridge::cuda::{has_workspace, with_workspace};
use crate::error::Result;
use crate::kernels::args::conv2d::Conv2DShape;
use crate::kernels::args::Fill;

/// Pixels of an image from which its product fills the tiles of cuBLAS.
const PIXELS: usize = 64;
/// Elements that cuBLAS's kernels on tensor cores read at once: rows of images have to be multiples.
const ALIGNED: usize = 4;
/// The most elements of the images' parts of dW: 1 GB, as of cuDNN's workspaces.
const MOST_PARTS: usize = 1 << 28;

fn suits(shape: &Conv2DShape) -> bool {
    let (op, pixels) = (shape.op(), shape.output_pixels());
    [op.kernel, op.stride, op.padding, op.groups] == [1, 1, 0, 1]
        && shape.batch() > 0
        && is_countable(shape)
        && pixels >= PIXELS
        && pixels.is_multiple_of(ALIGNED)
}

/// The same matrix for every image: the next one is no element further.
fn for_all(data: Slice<'_, f32>, row: usize) -> Matrix<'_> {
    matrices(data, row, 0)
}

// y (C_out, P) = w (C_out, C_in) x (C_in, P) + bias, of each image
pub(super) fn forward(
    shape: &Conv2DShape,
    x: Slice<f32>,
    weight: Slice<f32>,
    bias: Option<Slice<f32>>,
    y: &SliceMut<f32>,
) -> Result<bool> {
    if !suits(shape) {
        return Ok(false);
    }
    let (inputs, outputs, pixels) = (shape.c_in(), shape.c_out(), shape.output_pixels());
    multiply(
        products([outputs, inputs, pixels], shape.batch(), false),
        for_all(weight, inputs),
        matrices(x, pixels, inputs),
        y,
    )?;
    if let Some(bias) = bias {
        add_bias(shape, bias, y)?;
    }
    Ok(true)
}

// dX (C_in, P) (+)= wT (C_in, kept) dY (kept, P), of each image
pub(super) fn backward_input(
    shape: &Conv2DShape,
    weight: Slice<f32>,
    dy: Gradient,
    dx: &SliceMut<f32>,
    fill: Fill,
) -> Result<bool> {
    if !suits(shape) {
        return Ok(false);
    }
    let (inputs, channels, pixels) = (shape.c_in(), dy.channels, shape.output_pixels());
    let multiplied = |rows: Slice<f32>| {
        multiply(
            products([inputs, channels, pixels], shape.batch(), fill == Fill::Add),
            transposed(for_all(rows, inputs)),
            matrices(dy.dy, pixels, channels),
            dx,
        )
    };
    match dy.kept {
        None => multiplied(weight)?,
        Some(kept) => with_workspace(dx.device(), channels * inputs, |rows| {
            gather_rows(weight, kept, inputs, &rows)?;
            multiplied(rows.shared())
        })?,
    }
    Ok(true)
}

// dW (kept, C_in) += dY (kept, P) xT (P, C_in), summed over the images
pub(super) fn backward_weight(
    shape: &Conv2DShape,
    x: Slice<f32>,
    dy: Gradient,
    dw: &SliceMut<f32>,
) -> Result<bool> {
    let (inputs, channels, pixels) = (shape.c_in(), dy.channels, shape.output_pixels());
    let (count, step) = (shape.batch(), channels * inputs);
    // What the images' products are is written and read again: less than what is multiplied.
    let is_little = step <= (channels + inputs) * pixels && count * step <= MOST_PARTS;
    if !suits(shape) || !is_little || !has_workspace(dw.device(), count * step) {
        return Ok(false);
    }
    with_workspace(dw.device(), count * step, |parts| {
        multiply(
            products([channels, pixels, inputs], count, false),
            matrices(dy.dy, pixels, channels),
            transposed(matrices(x, pixels, inputs)),
            &parts,
        )?;
        add_parts(parts.shared(), [count, step], dy, inputs, dw)
    })?;
    Ok(true)
}
