//! Convolution of any geometry as matrix products with the unfolded image ("im2col"): what `f64`
//! uses, for checks rather than for speed.
//!
//! One group of a block of images at a time, with F = C_in / groups * K * K and P output pixels:
//!
//! - forward: y (C_out, P) = W (C_out, F) * columns (F, P);
//! - dX: columns (F, P) = Wt (F, kept) * dY (kept, P), folded back onto the image;
//! - dWt (F, kept) = columns (F, P) * dYt (P, kept).
//!
//! Blocks of images do not depend on the number of threads, nor does the order of sums.

mod fold;
pub mod product;

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use crate::args::conv2d::{Conv2DShape, OutputGrad};
use crate::args::{Fill, KeptChannels};
use crate::cpu::conv2d::rows::kept_rows;
use crate::cpu::element::Element;
use crate::cpu::workspace::Workspace;
use fold::{fold, unfold};
pub use product::Product;
use product::{product, Left, Right, PAD};

/// Output pixels of a block of images, about.
const BLOCK_PIXELS: usize = 256;
/// Partial sums of dW, at most.
const MAX_PARTS: usize = 8;

/// How the batch is cut into blocks of images.
#[derive(Clone, Copy)]
struct Blocks {
    images: usize,
    count: usize,
}

impl Blocks {
    fn new(shape: &Conv2DShape) -> Self {
        let images = (BLOCK_PIXELS / shape.output_pixels().max(1)).max(1);
        Self {
            images,
            count: shape.batch().div_ceil(images),
        }
    }

    fn range(self, shape: &Conv2DShape, block: usize) -> Range<usize> {
        block * self.images..((block + 1) * self.images).min(shape.batch())
    }
}

/// A matrix with contiguous rows of `cols` elements, whole vectors, `row` apart: planes of a
/// tensor, or a copy.
struct Rows<'a, E: Element> {
    data: RowData<'a, E>,
    cols: usize,
    row: usize,
}

enum RowData<'a, E: Element> {
    Planes(&'a [E]),
    Copy(Workspace<E>),
}

impl<E: Element> Rows<'_, E> {
    fn data(&self) -> &[E] {
        match &self.data {
            RowData::Planes(planes) => planes,
            RowData::Copy(copy) => copy,
        }
    }

    fn right(&self) -> Right<'_, E> {
        Right {
            data: self.data(),
            row: self.row,
        }
    }
}

/// From a matrix's row of `used` elements to the next: whole vectors, and not a power of two, for
/// then the rows' elements in one column would fall into a few sets of the cache.
fn row_len(used: usize) -> usize {
    let padded = used.next_multiple_of(PAD);
    if padded.is_multiple_of(8 * PAD) {
        padded + PAD
    } else {
        padded
    }
}

/// Planes of one image can stand in for a matrix if its rows need no padding.
fn in_place(images: &Range<usize>, pixels: usize) -> bool {
    images.len() == 1 && pixels.is_multiple_of(PAD)
}

/// The columns (F, images * P) of one group of a block of images. (Pointwise: the planes.)
fn columns<'a, E: Element>(
    shape: &Conv2DShape,
    x: &'a [E],
    images: Range<usize>,
    group: usize,
) -> Rows<'a, E> {
    let pixels = shape.input_pixels();
    let planes = |image: usize| {
        let start = (image * shape.c_in() + group * shape.group_in()) * pixels;
        &x[start..start + shape.group_in() * pixels]
    };
    if shape.is_pointwise() && in_place(&images, pixels) {
        return Rows {
            data: RowData::Planes(planes(images.start)),
            cols: pixels,
            row: pixels,
        };
    }
    let taps = shape.op().kernel * shape.op().kernel;
    let used = images.len() * shape.output_pixels();
    let row = row_len(used);
    let mut copy = Workspace::take(shape.filter_len() * row);
    for (nth, image) in images.enumerate() {
        let planes = planes(image);
        for c in 0..shape.group_in() {
            // By index, since an image without pixels has planes too, of padding only.
            let plane = &planes[c * pixels..(c + 1) * pixels];
            let start = c * taps * row + nth * shape.output_pixels();
            unfold(shape, plane, &mut copy[start..], row);
        }
    }
    copy.chunks_mut(row)
        .for_each(|row| row[used..].fill(E::zero()));
    Rows {
        data: RowData::Copy(copy),
        cols: used.next_multiple_of(PAD),
        row,
    }
}

/// y = conv(x, w) + bias
pub fn forward<E: Product>(shape: &Conv2DShape, x: &[E], w: &[E], bias: Option<&[E]>, y: &mut [E]) {
    let (p, f, k) = (shape.output_pixels(), shape.filter_len(), shape.group_out());
    let blocks = Blocks::new(shape);
    y.par_chunks_mut((blocks.images * shape.c_out() * p).max(1))
        .enumerate()
        .for_each(|(block, y)| {
            let images = blocks.range(shape, block);
            for group in 0..shape.op().groups {
                let columns = columns(shape, x, images.clone(), group);
                let row = columns.row;
                let filters = Left {
                    data: &w[group * k * f..(group + 1) * k * f],
                    row: f,
                    col: 1,
                };
                // (C_out, F) x (F, n P) -> (C_out, n P)
                let sizes = [k, columns.cols, f];
                if in_place(&images, p) {
                    let y = &mut y[group * k * p..(group + 1) * k * p];
                    product(sizes, filters, columns.right(), y, p, false);
                } else {
                    // A row holds a channel of each image in turn.
                    let mut rows = Workspace::take(k * row);
                    product(sizes, filters, columns.right(), &mut rows, row, false);
                    for (c, row) in rows.chunks(row).enumerate() {
                        for (image, plane) in row.chunks_exact(p).take(images.len()).enumerate() {
                            let to = (image * shape.c_out() + group * k + c) * p;
                            y[to..to + p].copy_from_slice(plane);
                        }
                    }
                }
            }
            if let Some(bias) = bias {
                for (i, plane) in y.chunks_mut(p).enumerate() {
                    let bias = bias[i % shape.c_out()];
                    plane.iter_mut().for_each(|y| *y += bias);
                }
            }
        });
}

/// dY (slots, images * P) of a block.
fn gradient_rows<'a, E: Element>(
    dy: &'a [E],
    channels: usize,
    p: usize,
    images: Range<usize>,
    slots: Range<usize>,
) -> Rows<'a, E> {
    let planes = |image: usize| &dy[(image * channels + slots.start) * p..][..slots.len() * p];
    if in_place(&images, p) {
        return Rows {
            data: RowData::Planes(planes(images.start)),
            cols: p,
            row: p,
        };
    }
    let used = images.len() * p;
    let row = row_len(used);
    let mut copy = Workspace::take(slots.len() * row);
    for (nth, image) in images.enumerate() {
        for (slot, plane) in planes(image).chunks(p).enumerate() {
            copy[slot * row + nth * p..][..p].copy_from_slice(plane);
        }
    }
    copy.chunks_mut(row)
        .for_each(|row| row[used..].fill(E::zero()));
    Rows {
        data: RowData::Copy(copy),
        cols: used.next_multiple_of(PAD),
        row,
    }
}

/// dYt (images * P, slots) of a block.
fn gradient_columns<E: Element>(
    dy: &[E],
    channels: usize,
    p: usize,
    images: Range<usize>,
    slots: Range<usize>,
) -> Rows<'static, E> {
    let row = row_len(slots.len());
    let mut copy = Workspace::take(images.len() * p * row);
    for (rows, image) in copy.chunks_mut(p * row).zip(images) {
        let planes = &dy[(image * channels + slots.start) * p..][..slots.len() * p];
        // A few pixels at a time, so that their rows stay in cache while every slot is added.
        for (rows, q) in rows.chunks_mut(PAD * row).zip((0..p).step_by(PAD)) {
            for (slot, plane) in planes.chunks(p).enumerate() {
                for (row, &g) in rows.chunks_mut(row).zip(&plane[q..]) {
                    row[slot] = g;
                }
            }
            for row in rows.chunks_mut(row) {
                row[slots.len()..].fill(E::zero());
            }
        }
    }
    Rows {
        data: RowData::Copy(copy),
        cols: slots.len().next_multiple_of(PAD),
        row,
    }
}

/// The filters of the gradient's channels, (channels, F).
fn kept_filters<'a, E: Element>(
    shape: &Conv2DShape,
    w: &'a [E],
    kept: Option<&KeptChannels>,
) -> Cow<'a, [E]> {
    let f = shape.filter_len();
    match kept {
        None => w.into(),
        Some(kept) => kept
            .iter()
            .flat_map(|&k| &w[k * f..(k + 1) * f])
            .copied()
            .collect::<Vec<_>>()
            .into(),
    }
}

/// dX (+)= conv-transpose(dY, w)
pub fn backward_input<E: Product>(
    shape: &Conv2DShape,
    w: &[E],
    dy: OutputGrad<'_, &[E]>,
    dx: &mut [E],
    fill: Fill,
) {
    let (p, f) = (shape.output_pixels(), shape.filter_len());
    let taps = shape.op().kernel * shape.op().kernel;
    let pixels = shape.input_pixels();
    let channels = dy.channels(shape.c_out());
    let filters = kept_filters(shape, w, dy.kept);
    let blocks = Blocks::new(shape);
    dx.par_chunks_mut((blocks.images * shape.c_in() * pixels).max(1))
        .enumerate()
        .for_each(|(block, dx)| {
            let images = blocks.range(shape, block);
            let in_place = shape.is_pointwise() && in_place(&images, p);
            // A product in place reaches every element of its group.
            if fill == Fill::Overwrite && !(in_place && shape.op().groups == 1) {
                dx.fill(E::zero());
            }
            for group in 0..shape.op().groups {
                let slots = shape.slots(dy.kept, group);
                if slots.is_empty() {
                    continue;
                }
                let k = slots.len();
                let filters = Left {
                    data: &filters[slots.start * f..slots.end * f],
                    row: 1,
                    col: f,
                };
                let grad = gradient_rows(dy.data, channels, p, images.clone(), slots);
                // (F, kept) x (kept, n P) -> (F, n P)
                let sizes = [f, grad.cols, k];
                if in_place {
                    let dx = &mut dx[group * f * p..(group + 1) * f * p];
                    let add = fill == Fill::Add || shape.op().groups > 1;
                    product(sizes, filters, grad.right(), dx, p, add);
                    continue;
                }
                let mut columns = Workspace::take(f * grad.row);
                product(sizes, filters, grad.right(), &mut columns, grad.row, false);
                for image in 0..images.len() {
                    for c in 0..shape.group_in() {
                        let plane = (image * shape.c_in() + group * shape.group_in() + c) * pixels;
                        fold(
                            shape,
                            &columns[c * taps * grad.row + image * p..],
                            grad.row,
                            &mut dx[plane..plane + pixels],
                        );
                    }
                }
            }
        });
}

/// dW += correlation(x, dY); rows of dropped channels stay as they are
pub fn backward_weight<E: Product>(
    shape: &Conv2DShape,
    x: &[E],
    dy: OutputGrad<'_, &[E]>,
    dw: &mut [E],
) {
    let (p, f) = (shape.output_pixels(), shape.filter_len());
    let channels = dy.channels(shape.c_out());
    let blocks = Blocks::new(shape);
    let parts = blocks.count.min(MAX_PARTS);
    // Each group's sum is dWt (F, slots) with padded rows; its slots, row length and place:
    let mut part_len = 0;
    let groups: Vec<(Range<usize>, usize, usize)> = (0..shape.op().groups)
        .map(|group| {
            let slots = shape.slots(dy.kept, group);
            let row = row_len(slots.len());
            part_len += f * row;
            (slots, row, part_len - f * row)
        })
        .collect();
    let mut sums = Workspace::take(parts * part_len);
    sums.par_chunks_mut(part_len)
        .enumerate()
        .for_each(|(part, sums)| {
            for block in part * blocks.count / parts..(part + 1) * blocks.count / parts {
                let images = blocks.range(shape, block);
                let first = block == part * blocks.count / parts;
                for (group, (slots, row, at)) in groups.iter().enumerate() {
                    if slots.is_empty() {
                        continue;
                    }
                    let columns = columns(shape, x, images.clone(), group);
                    let grad =
                        gradient_columns(dy.data, channels, p, images.clone(), slots.clone());
                    let left = Left {
                        data: columns.data(),
                        row: columns.row,
                        col: 1,
                    };
                    // (F, n P) x (n P, kept) -> (F, kept)
                    let sizes = [f, grad.cols, images.len() * p];
                    let sum = &mut sums[*at..at + f * row];
                    product(sizes, left, grad.right(), sum, *row, !first);
                }
            }
        });
    let sums = &sums;
    let mut rows = kept_rows(dw, f, dy.kept);
    for (slots, row, at) in &groups {
        let rows = rows[slots.clone()].par_chunks_mut(PAD).enumerate();
        rows.for_each(|(block, rows)| {
            for i in 0..f {
                let mut total = [E::zero(); PAD];
                for part in 0..parts {
                    let sum = &sums[part * part_len + at + i * row + block * PAD..][..PAD];
                    for (total, &sum) in total.iter_mut().zip(sum) {
                        *total += sum;
                    }
                }
                for (row, total) in rows.iter_mut().zip(total) {
                    row[i] += total;
                }
            }
        });
    }
}
