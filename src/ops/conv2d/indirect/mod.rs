//! Convolution of any geometry, `f32`, as products that find their factors through offsets (the
//! idea of Dukhan, *The Indirect Convolution Algorithm*, arXiv 1907.02129).
//!
//! No columns are unfolded: a tap's row of the columns is a stretch of a shifted copy of the image
//! (see [`shifts`]), and a product is told where each begins.
//!
//! - forward: y (C_out, P) = W (C_out, F) * rows (F, P), F = C_in / groups * K * K;
//! - dX: each phase (C_in / groups, P) = Wt (C_in / groups, kept * taps) * rows of dY;
//! - dWt (F, kept) = rows (F, P) * dYt (P, kept).
//!
//! Blocks of images do not depend on the number of threads, nor does the order of sums.

mod kernel;
mod packed;
mod shifts;
mod transposed;
mod weight;

use std::ops::Range;

use rayon::prelude::*;

use super::geometry::{Conv2DOp, Conv2DShape, OutputGrad};
use crate::ops::Fill;
use crate::simd::Isa;
use crate::workspace::Workspace;
use kernel::{Gathered, CHUNK};
use packed::Packed;
use shifts::{copy_plane, spread, Taps};
pub use weight::backward_weight;

/// Elements of a block's copies, at most (but for one row): half of a core's second cache.
const COPIES: usize = 1 << 17;
/// Pixels of a block, about.
const BLOCK_PIXELS: usize = 256;

/// How images are cut: a task has whole images, and takes rows of them at a time.
#[derive(Clone, Copy)]
struct Blocks {
    /// Images of a task.
    images: usize,
    /// Rows at a time.
    rows: usize,
    /// Height and width of an image.
    size: [usize; 2],
}

impl Blocks {
    /// Blocks of images of `size` whose copies hold `per_pixel` elements for each pixel.
    fn new(size: [usize; 2], per_pixel: usize) -> Self {
        let [h, w] = size;
        let pixels = (COPIES / per_pixel.max(1)).min(BLOCK_PIXELS);
        let rows = (pixels / w.max(1)).clamp(1, h.max(1));
        // Rows that make whole chunks are written where they belong.
        let whole = (1..=rows).rev().find(|r| (r * w).is_multiple_of(CHUNK));
        Self {
            images: (pixels / (h * w).max(1)).max(1),
            rows: if rows == h { h } else { whole.unwrap_or(rows) },
            size,
        }
    }

    /// The parts of an image, as rows.
    fn parts(self) -> impl Iterator<Item = Range<usize>> {
        let h = self.size[0];
        (0..h)
            .step_by(self.rows.max(1))
            .map(move |y| y..(y + self.rows).min(h))
    }
}

/// Chunks of `pixels` pixels of each of `images` images, `image` apart.
fn chunks(images: usize, image: usize, pixels: usize) -> Vec<usize> {
    (0..images)
        .flat_map(|n| (0..pixels).step_by(CHUNK).map(move |p| n * image + p))
        .collect()
}

/// The copies of the input that a block of output rows reads: for each image and channel, for each
/// tap along the width and phase along the height, (rows + extra, W_out).
struct Copies {
    data: Workspace,
    /// From a channel's copies to the next channel's.
    channel: usize,
    /// From an image's copies to the next image's.
    image: usize,
    /// Where each tap (row-major) reads, from its channel's copies on.
    taps: Vec<usize>,
}

impl Copies {
    fn per_pixel(shape: &Conv2DShape) -> usize {
        let taps = Taps::new(&shape.op);
        shape.group_in() * shape.op.kernel * taps.phases().len()
    }

    fn new(
        shape: &Conv2DShape,
        x: &[f32],
        images: Range<usize>,
        channels: Range<usize>,
        rows: Range<usize>,
    ) -> Self {
        let (op, taps) = (&shape.op, Taps::new(&shape.op));
        let (phases, width) = (taps.phases(), shape.output[1]);
        let copy = (rows.len() + taps.extra()) * width;
        let channel = spread(op.kernel * phases.len() * copy);
        let image = channels.len() * channel;
        // A chunk may reach beyond the last row.
        let mut data = Workspace::take(images.len() * image + CHUNK);
        let pixels = shape.input_pixels();
        let step = op.stride as isize;
        let first = (rows.start as isize + taps.min) * step;
        let end = (rows.end as isize + taps.max) * step;
        for (n, b) in images.enumerate() {
            for (i, c) in channels.clone().enumerate() {
                let plane = &x[(b * shape.c_in + c) * pixels..][..pixels];
                let copies = &mut data[n * image + i * channel..];
                for kx in 0..op.kernel {
                    let start = (kx * op.dilation) as isize - op.padding as isize;
                    for (nth, &phase) in phases.iter().enumerate() {
                        let to = &mut copies[(kx * phases.len() + nth) * copy..][..copy];
                        let rows = first + phase as isize..end;
                        let columns = [start, step];
                        copy_plane(plane, shape.input, rows, op.stride, columns, width, to);
                    }
                }
            }
        }
        let of = |ky: usize, kx: usize| {
            let phase = phases.partition_point(|&p| p < taps.phase[ky]);
            (kx * phases.len() + phase) * copy + (taps.shift[ky] - taps.min) as usize * width
        };
        let taps = (0..op.kernel).flat_map(|ky| (0..op.kernel).map(move |kx| (ky, kx)));
        Self {
            taps: taps.map(|(ky, kx)| of(ky, kx)).collect(),
            data,
            channel,
            image,
        }
    }

    /// Where each of the columns' rows begins, for `channels` channels.
    fn rows(&self, channels: usize) -> Vec<usize> {
        (0..channels)
            .flat_map(|c| self.taps.iter().map(move |tap| c * self.channel + tap))
            .collect()
    }
}

/// y = conv(x, w) + bias
pub fn forward(
    isa: Isa,
    shape: &Conv2DShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let (p, f, k) = (shape.output_pixels(), shape.filter_len(), shape.group_out());
    let (c_in, width) = (shape.group_in(), shape.output[1]);
    let columns: Vec<usize> = (0..f).collect();
    let filters: Vec<Packed> = (0..shape.op.groups)
        .map(|g| Packed::new(isa, k, f, &columns, &w[g * k * f..(g + 1) * k * f]))
        .collect();
    let blocks = Blocks::new(shape.output, Copies::per_pixel(shape));
    y.par_chunks_mut((blocks.images * shape.c_out * p).max(1))
        .enumerate()
        .for_each(|(block, y)| {
            let images = block * blocks.images..((block + 1) * blocks.images).min(shape.batch);
            for (rows, (g, a)) in blocks
                .parts()
                .flat_map(|rows| filters.iter().enumerate().map(move |f| (rows.clone(), f)))
            {
                let channels = g * c_in..(g + 1) * c_in;
                let copies = Copies::new(shape, x, images.clone(), channels, rows.clone());
                let pixels = rows.len() * width;
                let b_chunks = chunks(images.len(), copies.image, pixels);
                let b = Columns {
                    data: &copies.data,
                    rows: &copies.rows(c_in),
                    chunks: &b_chunks,
                };
                let to = Planes {
                    first: g * k * p + rows.start * width,
                    image: shape.c_out * p,
                    row: p,
                    pixels,
                };
                product(a, b, y, to, images.len(), Fill::Overwrite);
            }
            if let Some(bias) = bias {
                for (i, plane) in y.chunks_mut(p).enumerate() {
                    let bias = bias[i % shape.c_out];
                    plane.iter_mut().for_each(|y| *y += bias);
                }
            }
        });
}

/// B of [`Gathered`].
#[derive(Clone, Copy)]
struct Columns<'a> {
    data: &'a [f32],
    rows: &'a [usize],
    chunks: &'a [usize],
}

/// Parts of planes that a product writes: row i of image n is the `pixels` elements from `first` +
/// n * `image` + i * `row` on.
#[derive(Clone, Copy)]
struct Planes {
    first: usize,
    image: usize,
    row: usize,
    pixels: usize,
}

/// The product of `a` and `b`, to or onto parts of `planes`.
fn product(a: &Packed, b: Columns<'_>, planes: &mut [f32], to: Planes, images: usize, fill: Fill) {
    let multiply = |c: &mut [f32], c_row, c_chunks: &[usize], accumulate| {
        Gathered {
            a,
            b: b.data,
            b_rows: b.rows,
            b_chunks: b.chunks,
            c,
            c_row,
            c_chunks,
            accumulate,
        }
        .multiply();
    };
    if to.pixels.is_multiple_of(CHUNK) {
        let c_chunks = chunks(images, to.image, to.pixels);
        let planes = &mut planes[to.first..];
        return multiply(planes, to.row, &c_chunks, fill == Fill::Add);
    }
    // Whole chunks would reach into the next rows: by way of a copy.
    let padded = to.pixels.next_multiple_of(CHUNK);
    let row = images * padded;
    let mut copy = Workspace::take(a.rows * row);
    multiply(&mut copy, row, &chunks(images, padded, to.pixels), false);
    for (i, copy) in copy.chunks_exact(row.max(1)).enumerate() {
        for (n, copy) in copy.chunks_exact(padded).enumerate() {
            let planes = &mut planes[to.first + n * to.image + i * to.row..][..to.pixels];
            match fill {
                Fill::Overwrite => planes.copy_from_slice(&copy[..to.pixels]),
                Fill::Add => planes.iter_mut().zip(copy).for_each(|(p, c)| *p += c),
            }
        }
    }
}

/// The taps that reach one phase of the input: their rows of dY's copies, and filters.
struct Phase {
    /// Row and column of the first pixel.
    at: [usize; 2],
    /// Each tap's number and where it reads, from its channel's copies on.
    taps: Vec<(usize, usize)>,
}

impl Phase {
    /// The phases of both axes, row by row, for copies of `copy` elements with rows of `width`.
    fn all(op: &Conv2DOp, taps: &Taps, copy: usize, width: usize) -> Vec<Self> {
        let shifts = taps.shifts();
        let mut phases: Vec<_> = (0..op.stride)
            .flat_map(|y| (0..op.stride).map(move |x| [y, x]))
            .map(|at| Self {
                at,
                taps: Vec::new(),
            })
            .collect();
        for ky in 0..op.kernel {
            for kx in 0..op.kernel {
                let shift = shifts.partition_point(|&s| s < taps.shift[kx]);
                let row = (taps.max - taps.shift[ky]) as usize;
                let phase = &mut phases[taps.phase[ky] * op.stride + taps.phase[kx]];
                let tap = (ky * op.kernel + kx, shift * copy + row * width);
                phase.taps.push(tap);
            }
        }
        phases
    }
}

/// dX (+)= conv-transpose(dY, w)
///
/// At input pixel (i * stride + phase), the taps of that phase read dY at i - shift.
pub fn backward_input(
    isa: Isa,
    shape: &Conv2DShape,
    w: &[f32],
    dy: OutputGrad<'_, [f32]>,
    dx: &mut [f32],
    fill: Fill,
) {
    let (op, taps, f) = (&shape.op, Taps::new(&shape.op), shape.filter_len());
    let (p, c_in, all_taps) = (
        shape.output_pixels(),
        shape.group_in(),
        op.kernel * op.kernel,
    );
    let (pixels, stride) = (shape.input_pixels(), op.stride);
    // The largest phase's size. The others' may be one less: their last row or column is dropped.
    let size = shape.input.map(|n| n.div_ceil(stride));
    let shifts = taps.shifts();
    let channels = dy.channels(shape.c_out);
    let most = (0..op.groups).map(|g| shape.slots(dy.kept, g).len()).max();
    let blocks = Blocks::new(size, most.unwrap_or(0) * shifts.len());
    let copy = |rows: usize| (rows + taps.extra()) * size[1];
    let phases = |rows: usize| Phase::all(op, &taps, copy(rows), size[1]);
    // One factor a group and phase: (C_in / groups, slots * taps).
    let filters: Vec<Vec<Packed>> = (0..op.groups)
        .map(|g| {
            let slots = shape.slots(dy.kept, g);
            let of = |phase: &Phase| {
                let starts: Vec<usize> = slots
                    .clone()
                    .map(|slot| dy.kept.map_or(slot, |kept| kept[slot]) * f)
                    .flat_map(|filter| phase.taps.iter().map(move |&(tap, _)| filter + tap))
                    .collect();
                Packed::new(isa, c_in, all_taps, &starts, w)
            };
            phases(0).iter().map(of).collect()
        })
        .collect();

    dx.par_chunks_mut((blocks.images * shape.c_in * pixels).max(1))
        .enumerate()
        .for_each(|(block, dx)| {
            let images = block * blocks.images..((block + 1) * blocks.images).min(shape.batch);
            let count = images.len();
            for rows in blocks.parts() {
                let phases = phases(rows.len());
                let copy = copy(rows.len());
                let channel = spread(shifts.len() * copy);
                for g in 0..op.groups {
                    let slots = shape.slots(dy.kept, g);
                    if slots.is_empty() {
                        if fill == Fill::Overwrite {
                            for image in dx.chunks_exact_mut(shape.c_in * pixels) {
                                image[g * c_in * pixels..][..c_in * pixels].fill(0.0);
                            }
                        }
                        continue;
                    }
                    let image = slots.len() * channel;
                    let mut data = Workspace::take(count * image + CHUNK);
                    let first = rows.start as isize - taps.max;
                    let end = rows.end as isize - taps.min;
                    for (n, b) in images.clone().enumerate() {
                        for (i, slot) in slots.clone().enumerate() {
                            let plane = &dy.data[(b * channels + slot) * p..][..p];
                            let to = &mut data[n * image + i * channel..];
                            for (to, &s) in to.chunks_exact_mut(copy).zip(&shifts) {
                                let start = [-s, 1];
                                copy_plane(plane, shape.output, first..end, 1, start, size[1], to);
                            }
                        }
                    }
                    let (pixels_of, b_chunks) = {
                        let pixels = rows.len() * size[1];
                        (pixels, chunks(count, image, pixels))
                    };
                    let offsets = |phase: &Phase| -> Vec<usize> {
                        (0..slots.len())
                            .flat_map(|i| phase.taps.iter().map(move |&(_, at)| i * channel + at))
                            .collect()
                    };
                    let group = g * c_in * pixels;
                    if stride == 1 {
                        let b = Columns {
                            data: &data,
                            rows: &offsets(&phases[0]),
                            chunks: &b_chunks,
                        };
                        let to = Planes {
                            first: group + rows.start * size[1],
                            image: shape.c_in * pixels,
                            row: pixels,
                            pixels: pixels_of,
                        };
                        product(&filters[g][0], b, dx, to, count, fill);
                        continue;
                    }
                    // One row of phases at a time, (C_in / groups, images, stride, pixels), and then
                    // its columns into the image's.
                    let padded = pixels_of.next_multiple_of(CHUNK);
                    let mut sums = Workspace::take(c_in * count * stride * padded);
                    for row_of_phases in 0..stride {
                        for x in 0..stride {
                            let phase = &phases[row_of_phases * stride + x];
                            if phase.taps.is_empty() {
                                continue;
                            }
                            let to: Vec<usize> = chunks(count, stride * padded, pixels_of)
                                .iter()
                                .map(|at| at + x * padded)
                                .collect();
                            Gathered {
                                a: &filters[g][row_of_phases * stride + x],
                                b: &data,
                                b_rows: &offsets(phase),
                                b_chunks: &b_chunks,
                                c: &mut sums,
                                c_row: count * stride * padded,
                                c_chunks: &to,
                                accumulate: false,
                            }
                            .multiply();
                        }
                        let interleave = Interleave {
                            shape,
                            phases: &phases[row_of_phases * stride..][..stride],
                            sums: &sums,
                            padded,
                            width: size[1],
                            rows: rows.clone(),
                            fill,
                        };
                        for n in 0..count {
                            for c in 0..c_in {
                                let plane = n * shape.c_in * pixels + group + c * pixels;
                                let plane = &mut dx[plane..plane + pixels];
                                interleave.plane((c * count + n) * stride * padded, plane);
                            }
                        }
                    }
                }
            }
        });
}

/// Puts the phases of one row of phases where they belong in the image.
struct Interleave<'a> {
    shape: &'a Conv2DShape,
    phases: &'a [Phase],
    sums: &'a [f32],
    padded: usize,
    width: usize,
    rows: Range<usize>,
    fill: Fill,
}

impl Interleave<'_> {
    /// The sums from `first` on to a channel's plane.
    fn plane(&self, first: usize, plane: &mut [f32]) {
        let (stride, [h, w]) = (self.shape.op.stride, self.shape.input);
        for (i, row) in self.rows.clone().enumerate() {
            let y = row * stride + self.phases[0].at[0];
            if y >= h {
                break;
            }
            let to = &mut plane[y * w..(y + 1) * w];
            let from =
                |x: usize| &self.sums[first + x * self.padded + i * self.width..][..self.width];
            let some = |x: usize| !self.phases[x].taps.is_empty();
            if stride == 2 && some(0) && some(1) {
                self.pairs(from(0), from(1), to);
                continue;
            }
            for x in 0..stride {
                let to = to[x.min(w)..].iter_mut().step_by(stride);
                match (some(x), self.fill) {
                    (false, Fill::Add) => {}
                    (false, Fill::Overwrite) => to.for_each(|to| *to = 0.0),
                    (true, Fill::Add) => to.zip(from(x)).for_each(|(to, from)| *to += from),
                    (true, Fill::Overwrite) => to.zip(from(x)).for_each(|(to, from)| *to = *from),
                }
            }
        }
    }

    /// Two phases at once: whole vectors.
    fn pairs(&self, even: &[f32], odd: &[f32], to: &mut [f32]) {
        let (pairs, last) = to.as_chunks_mut::<2>();
        let from = even.iter().zip(odd);
        match self.fill {
            Fill::Add => pairs.iter_mut().zip(from).for_each(|(to, (e, o))| {
                to[0] += e;
                to[1] += o;
            }),
            Fill::Overwrite => pairs
                .iter_mut()
                .zip(from)
                .for_each(|(to, (e, o))| *to = [*e, *o]),
        }
        if let ([last], Some(e)) = (last, even.last()) {
            match self.fill {
                Fill::Add => *last += e,
                Fill::Overwrite => *last = *e,
            }
        }
    }
}
