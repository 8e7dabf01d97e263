//! Convolution of any geometry as matrix products with the unfolded image ("im2col").
//!
//! One group of a block of images at a time, with F = C_in / groups * K * K and P output pixels:
//!
//! - forward: y (C_out, P) = W (C_out, F) * columns (F, P);
//! - dX: columns (F, P) = Wt (F, kept) * dY (kept, P), folded back onto the image;
//! - dW: (kept, F) = dY (kept, P) * columnst (P, F).
//!
//! Blocks of images do not depend on the number of threads, nor does the order of sums.

use rayon::prelude::*;

use super::geometry::{Conv2DShape, OutputGrad};
use crate::element::Element;
use crate::workspace::{Shared, Workspace};

/// Output pixels of a block of images, about.
const BLOCK_PIXELS: usize = 256;
/// Partial sums of dW, at most.
const MAX_PARTS: usize = 8;

/// A matrix in memory: element (i, j) lies at `i * row + j * col`.
#[derive(Clone, Copy)]
struct View<T> {
    data: T,
    row: usize,
    col: usize,
}

/// C (m x n) = A (m x k) * B (k x n), or += it.
///
/// # Safety
/// The pointers are valid for the sizes with their strides, and nothing else uses C.
unsafe fn matmul<E: Element>(
    [m, n, k]: [usize; 3],
    a: View<*const E>,
    b: View<*const E>,
    c: View<*mut E>,
    accumulate: bool,
) {
    // SAFETY: the caller's promise. `gemm` computes C = alpha C + beta A B.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.data,
            c.col as isize,
            c.row as isize,
            accumulate,
            a.data,
            a.col as isize,
            a.row as isize,
            b.data,
            b.col as isize,
            b.row as isize,
            E::one(),
            E::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The output positions `lo..hi` along one axis whose tap `k` falls inside the image, and the
/// first one's input position.
fn inside(k: usize, shape: &Conv2DShape, axis: usize) -> (usize, usize, usize) {
    let op = &shape.op;
    let at = k * op.dilation;
    let lo = op.padding.saturating_sub(at).div_ceil(op.stride);
    // The last output position whose input position is below the size.
    let hi = (shape.input[axis] + op.padding)
        .saturating_sub(at)
        .div_ceil(op.stride)
        .min(shape.output[axis]);
    let lo = lo.min(hi);
    (lo, hi, (lo * op.stride + at).saturating_sub(op.padding))
}

/// One channel's plane to its K * K rows of the columns, `row_len` apart.
fn unfold<E: Element>(shape: &Conv2DShape, plane: &[E], columns: &mut [E], row_len: usize) {
    let (kernel, stride) = (shape.op.kernel, shape.op.stride);
    let [_, w] = shape.input;
    let [_, w_out] = shape.output;
    for i in 0..kernel {
        let (y0, y1, iy) = inside(i, shape, 0);
        for j in 0..kernel {
            let (x0, x1, ix) = inside(j, shape, 1);
            let start = (i * kernel + j) * row_len;
            let row = &mut columns[start..start + shape.output_pixels()];
            row[..y0 * w_out].fill(E::zero());
            row[y1 * w_out..].fill(E::zero());
            for y in y0..y1 {
                let to = &mut row[y * w_out..(y + 1) * w_out];
                let from = &plane[(iy + (y - y0) * stride) * w..][..w];
                to[..x0].fill(E::zero());
                to[x1..].fill(E::zero());
                if x0 == x1 {
                } else if stride == 1 {
                    to[x0..x1].copy_from_slice(&from[ix..ix + x1 - x0]);
                } else {
                    for (to, &from) in to[x0..x1].iter_mut().zip(from[ix..].iter().step_by(stride))
                    {
                        *to = from;
                    }
                }
            }
        }
    }
}

/// Adds one channel's K * K rows of the columns to its plane.
fn fold<E: Element>(shape: &Conv2DShape, columns: &[E], row_len: usize, plane: &mut [E]) {
    let (kernel, stride) = (shape.op.kernel, shape.op.stride);
    let [_, w] = shape.input;
    let [_, w_out] = shape.output;
    for i in 0..kernel {
        let (y0, y1, iy) = inside(i, shape, 0);
        for j in 0..kernel {
            let (x0, x1, ix) = inside(j, shape, 1);
            let row = &columns[(i * kernel + j) * row_len..];
            for y in y0..y1 {
                let from = &row[y * w_out + x0..y * w_out + x1];
                let to = &mut plane[(iy + (y - y0) * stride) * w..][..w];
                if from.is_empty() {
                } else if stride == 1 {
                    for (to, &from) in to[ix..].iter_mut().zip(from) {
                        *to += from;
                    }
                } else {
                    for (to, &from) in to[ix..].iter_mut().step_by(stride).zip(from) {
                        *to += from;
                    }
                }
            }
        }
    }
}

/// How the batch is cut: blocks of images, and the pixels of one block.
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
            count: shape.batch.div_ceil(images),
        }
    }

    fn range(self, shape: &Conv2DShape, block: usize) -> std::ops::Range<usize> {
        block * self.images..((block + 1) * self.images).min(shape.batch)
    }
}

/// The columns (F, images * P) of one group of a block of images. Pointwise convolutions of one
/// image have theirs already: the planes.
enum Columns<'a, E: Element> {
    Planes(&'a [E]),
    Unfolded(Workspace<E>),
}

impl<'a, E: Element> Columns<'a, E> {
    fn new(shape: &Conv2DShape, x: &'a [E], images: std::ops::Range<usize>, group: usize) -> Self {
        let (pixels, count) = (shape.input_pixels(), images.len());
        let planes = |image: usize| {
            let start = (image * shape.c_in + group * shape.group_in()) * pixels;
            &x[start..start + shape.group_in() * pixels]
        };
        if shape.is_pointwise() && count == 1 {
            return Self::Planes(planes(images.start));
        }
        let taps = shape.op.kernel * shape.op.kernel;
        let row_len = count * shape.output_pixels();
        let mut columns = Workspace::take(shape.filter_len() * row_len);
        for (nth, image) in images.enumerate() {
            let planes = planes(image);
            for c in 0..shape.group_in() {
                // By index, since an image without pixels has planes too, of padding only.
                let plane = &planes[c * pixels..(c + 1) * pixels];
                let start = c * taps * row_len + nth * shape.output_pixels();
                unfold(shape, plane, &mut columns[start..], row_len);
            }
        }
        Self::Unfolded(columns)
    }

    fn as_slice(&self) -> &[E] {
        match self {
            Self::Planes(planes) => planes,
            Self::Unfolded(columns) => columns,
        }
    }
}

/// y = conv(x, w) + bias
pub fn forward<E: Element>(shape: &Conv2DShape, x: &[E], w: &[E], bias: Option<&[E]>, y: &mut [E]) {
    let (p, f, k) = (shape.output_pixels(), shape.filter_len(), shape.group_out());
    let blocks = Blocks::new(shape);
    y.par_chunks_mut((blocks.images * shape.c_out * p).max(1))
        .enumerate()
        .for_each(|(block, y)| {
            let images = blocks.range(shape, block);
            let n = images.len();
            for group in 0..shape.op.groups {
                let columns = Columns::new(shape, x, images.clone(), group);
                let columns = columns.as_slice();
                assert!(columns.len() >= f * n * p);
                let filters = &w[group * k * f..(group + 1) * k * f];
                // One image is written in place; of several, the product's rows hold a channel of
                // each image in turn, and are copied to where they belong.
                let mut product = Workspace::take(if n > 1 { k * n * p } else { 0 });
                let at = group * k * p;
                let out = if n > 1 {
                    product.as_mut_ptr()
                } else {
                    y[at..at + k * p].as_mut_ptr()
                };
                // (C_out, F) x (F, n P) -> (C_out, n P)
                // SAFETY: the slices have these sizes (indexing checked it).
                unsafe {
                    matmul(
                        [k, n * p, f],
                        View {
                            data: filters.as_ptr(),
                            row: f,
                            col: 1,
                        },
                        View {
                            data: columns.as_ptr(),
                            row: n * p,
                            col: 1,
                        },
                        View {
                            data: out,
                            row: n * p,
                            col: 1,
                        },
                        false,
                    );
                }
                if n > 1 {
                    for (c, row) in product.chunks(n * p).enumerate() {
                        for (image, plane) in row.chunks(p).enumerate() {
                            let to = (image * shape.c_out + group * k + c) * p;
                            y[to..to + p].copy_from_slice(plane);
                        }
                    }
                }
            }
            if let Some(bias) = bias {
                for (i, plane) in y.chunks_mut(p).enumerate() {
                    let bias = bias[i % shape.c_out];
                    plane.iter_mut().for_each(|y| *y += bias);
                }
            }
        });
}

/// The gradient's channels of each group, as a range of its slots.
fn slots(shape: &Conv2DShape, kept: Option<&[usize]>, group: usize) -> std::ops::Range<usize> {
    let k = shape.group_out();
    let of = |channel: usize| kept.map_or(channel, |kept| kept.partition_point(|&c| c < channel));
    of(group * k)..of((group + 1) * k)
}

/// dY (slots, images * P) of a block: in place for one image, else copied together.
enum Gradient<'a, E: Element> {
    Planes(&'a [E]),
    Copied(Workspace<E>),
}

impl<'a, E: Element> Gradient<'a, E> {
    fn new(
        dy: &'a [E],
        channels: usize,
        p: usize,
        images: std::ops::Range<usize>,
        slots: std::ops::Range<usize>,
    ) -> Self {
        let planes = |image: usize| &dy[(image * channels + slots.start) * p..][..slots.len() * p];
        if images.len() == 1 {
            return Self::Planes(planes(images.start));
        }
        let row_len = images.len() * p;
        let mut copy = Workspace::take(slots.len() * row_len);
        for (nth, image) in images.enumerate() {
            for (slot, plane) in planes(image).chunks(p).enumerate() {
                copy[slot * row_len + nth * p..][..p].copy_from_slice(plane);
            }
        }
        Self::Copied(copy)
    }

    fn as_slice(&self) -> &[E] {
        match self {
            Self::Planes(planes) => planes,
            Self::Copied(copy) => copy,
        }
    }
}

/// The filters of the gradient's channels, (channels, F).
fn kept_filters<'a, E: Element>(
    shape: &Conv2DShape,
    w: &'a [E],
    kept: Option<&[usize]>,
) -> std::borrow::Cow<'a, [E]> {
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

/// dX += conv-transpose(dY, w)
pub fn backward_input<E: Element>(
    shape: &Conv2DShape,
    w: &[E],
    dy: OutputGrad<'_, [E]>,
    dx: &mut [E],
) {
    let (p, f) = (shape.output_pixels(), shape.filter_len());
    let taps = shape.op.kernel * shape.op.kernel;
    let pixels = shape.input_pixels();
    let channels = dy.channels(shape.c_out);
    let filters = kept_filters(shape, w, dy.kept);
    let blocks = Blocks::new(shape);
    dx.par_chunks_mut((blocks.images * shape.c_in * pixels).max(1))
        .enumerate()
        .for_each(|(block, dx)| {
            let images = blocks.range(shape, block);
            let n = images.len();
            for group in 0..shape.op.groups {
                let slots = slots(shape, dy.kept, group);
                if slots.is_empty() {
                    continue;
                }
                let k = slots.len();
                let filters = &filters[slots.start * f..slots.end * f];
                let grad = Gradient::new(dy.data, channels, p, images.clone(), slots);
                let grad = grad.as_slice();
                let direct = shape.is_pointwise() && n == 1;
                let mut columns = Workspace::take(if direct { 0 } else { f * n * p });
                let at = group * f * p;
                let out = if direct {
                    dx[at..at + f * p].as_mut_ptr()
                } else {
                    columns.as_mut_ptr()
                };
                assert_eq!(grad.len(), k * n * p);
                // (F, kept) x (kept, n P) -> (F, n P)
                // SAFETY: the slices have these sizes (indexing and the assertion checked it).
                unsafe {
                    matmul(
                        [f, n * p, k],
                        View {
                            data: filters.as_ptr(),
                            row: 1,
                            col: f,
                        },
                        View {
                            data: grad.as_ptr(),
                            row: n * p,
                            col: 1,
                        },
                        View {
                            data: out,
                            row: n * p,
                            col: 1,
                        },
                        direct,
                    );
                }
                if direct {
                    continue;
                }
                for image in 0..n {
                    for c in 0..shape.group_in() {
                        let plane = (image * shape.c_in + group * shape.group_in() + c) * pixels;
                        fold(
                            shape,
                            &columns[c * taps * n * p + image * p..],
                            n * p,
                            &mut dx[plane..plane + pixels],
                        );
                    }
                }
            }
        });
}

/// dW += correlation(x, dY); rows of dropped channels stay as they are
pub fn backward_weight<E: Element>(
    shape: &Conv2DShape,
    x: &[E],
    dy: OutputGrad<'_, [E]>,
    dw: &mut [E],
) {
    let (p, f) = (shape.output_pixels(), shape.filter_len());
    let channels = dy.channels(shape.c_out);
    let blocks = Blocks::new(shape);
    let parts = blocks.count.min(MAX_PARTS);
    let part_len = channels * f;
    let mut sums = Workspace::take(parts * part_len);
    sums.par_chunks_mut(part_len)
        .enumerate()
        .for_each(|(part, sum)| {
            let mine = part * blocks.count / parts..(part + 1) * blocks.count / parts;
            for (nth, block) in mine.enumerate() {
                let images = blocks.range(shape, block);
                let n = images.len();
                for group in 0..shape.op.groups {
                    let slots = slots(shape, dy.kept, group);
                    if slots.is_empty() {
                        continue;
                    }
                    let k = slots.len();
                    let sum = &mut sum[slots.start * f..slots.end * f];
                    let columns = Columns::new(shape, x, images.clone(), group);
                    let columns = columns.as_slice();
                    let grad = Gradient::new(dy.data, channels, p, images.clone(), slots);
                    let grad = grad.as_slice();
                    assert!(columns.len() >= f * n * p && grad.len() == k * n * p);
                    // (kept, n P) x (n P, F) -> (kept, F)
                    // SAFETY: the slices have these sizes (indexing and the assertion checked it).
                    unsafe {
                        matmul(
                            [k, f, n * p],
                            View {
                                data: grad.as_ptr(),
                                row: n * p,
                                col: 1,
                            },
                            View {
                                data: columns.as_ptr(),
                                row: 1,
                                col: n * p,
                            },
                            View {
                                data: sum.as_mut_ptr(),
                                row: f,
                                col: 1,
                            },
                            nth > 0,
                        );
                    }
                }
            }
        });
    let sums = &sums;
    let out = Shared::new(dw);
    (0..channels).into_par_iter().for_each(|slot| {
        let row = dy.kept.map_or(slot, |kept| kept[slot]);
        // SAFETY: kept channels are unique and below C_out, so each task has a row of its own.
        let dw = unsafe { std::slice::from_raw_parts_mut(out.ptr().add(row * f), f) };
        for part in 0..parts {
            let sum = &sums[part * part_len + slot * f..][..f];
            for (dw, &sum) in dw.iter_mut().zip(sum) {
                *dw += sum;
            }
        }
    });
}

/// db += sum of dY over batch, height and width; dropped channels stay as they are
pub fn backward_bias<E: Element>(shape: &Conv2DShape, dy: OutputGrad<'_, [E]>, db: &mut [E]) {
    let p = shape.output_pixels();
    let channels = dy.channels(shape.c_out);
    let sums: Vec<E> = (0..channels)
        .into_par_iter()
        .map(|slot| {
            (0..shape.batch)
                .map(|b| lane_sum(&dy.data[(b * channels + slot) * p..][..p], |g| g))
                .sum()
        })
        .collect();
    for (slot, sum) in sums.into_iter().enumerate() {
        db[dy.kept.map_or(slot, |kept| kept[slot])] += sum;
    }
}

/// Sum of `f` over `v`, in sixteen partial sums that the compiler can keep in a vector.
pub fn lane_sum<E: Element>(v: &[E], f: impl Fn(E) -> E) -> E {
    let mut lanes = [E::zero(); 16];
    let chunks = v.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }
    lanes.into_iter().sum()
}
