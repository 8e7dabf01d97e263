//! What products read: windows of planes.
//!
//! A tap reads, for pixel (y, x) of the result, the plane's pixel (y, x) * step + the tap's offset.
//! These positions are the same in every channel: a [`Table`] of them, made for a block of rows,
//! serves all channels and images.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::CHUNK;
use super::kernel::Rows;
use super::panels::{copy, Panels};
use super::table::Table;
use crate::args::conv2d::Conv2DShape;
use crate::cpu::simd::Isa;
use crate::cpu::workspace::Workspace;

/// Rows this far apart the processor does not fetch ahead of their use by itself: a fifth of dW's
/// time, for planes of 16x16 pixels. Nearer ones it does, better than a product can.
const FAR: usize = 256;

/// Planes (batch, `channels`, `size`) under a kernel.
pub struct Windows<'a> {
    planes: &'a [f32],
    channels: usize,
    size: [usize; 2],
    /// Width of the result.
    width: usize,
    /// Between positions of a plane that neighbours of the result read.
    step: usize,
    /// What each row of taps, and each column of taps, adds to a position.
    offsets: Vec<isize>,
    /// Whether a window is a pixel: nothing moves.
    in_place: bool,
}

impl<'a> Windows<'a> {
    /// Of the input: at output pixel o, tap k reads o * stride + k * dilation - padding.
    pub fn of_input(shape: &Conv2DShape, x: &'a [f32]) -> Self {
        let op = &shape.op();
        let at = |k| (k * op.dilation) as isize - op.padding as isize;
        Self {
            planes: x,
            channels: shape.c_in(),
            size: shape.input(),
            width: shape.output()[1],
            step: op.stride,
            offsets: (0..op.kernel).map(at).collect(),
            in_place: shape.is_pointwise(),
        }
    }

    /// Of the output's gradient, of which `channels` are there: with the position that tap k reads
    /// of the input written as (o + shift) * stride + phase, pixel i of that phase of the input
    /// reads i - shift. `width` is a phase's.
    pub fn of_gradient(shape: &Conv2DShape, dy: &'a [f32], channels: usize, width: usize) -> Self {
        let op = &shape.op();
        let at = |k| (k * op.dilation) as isize - op.padding as isize;
        Self {
            planes: dy,
            channels,
            size: shape.output(),
            width,
            step: 1,
            offsets: (0..op.kernel)
                .map(|k| -at(k).div_euclid(op.stride as isize))
                .collect(),
            in_place: shape.is_pointwise(),
        }
    }

    /// Rows and columns of taps, together.
    pub fn taps(&self) -> usize {
        self.offsets.len() * self.offsets.len()
    }

    /// Pixels of a plane.
    pub fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Planes of `channels` channels of an image.
    pub fn planes(&self, image: usize, channels: Range<usize>) -> &'a [f32] {
        let first = image * self.channels;
        &self.planes
            [(first + channels.start) * self.pixels()..(first + channels.end) * self.pixels()]
    }

    /// Parts of the result's rows, with where each list of taps (row-major) reads for them.
    pub fn parts(
        &self,
        rows: impl Iterator<Item = Range<usize>>,
        taps: &[Vec<usize>],
    ) -> Vec<Part> {
        let rows: Vec<_> = rows.collect();
        rows.into_par_iter()
            .map(|rows| Part {
                tables: match self.in_place {
                    true => Vec::new(),
                    false => taps
                        .iter()
                        .map(|taps| self.table(taps, rows.clone()))
                        .collect(),
                },
                rows,
            })
            .collect()
    }

    fn table(&self, taps: &[usize], rows: Range<usize>) -> Table {
        Table::new(self.size, self.width, self.step, &self.offsets, taps, rows)
    }

    /// Fills the panels of each list of taps with a row for each of `channels` and tap, and the
    /// columns that stand for a part of the result's images `images`.
    pub fn fill(
        &self,
        isa: Isa,
        panels: &mut [Panels],
        images: Range<usize>,
        channels: Range<usize>,
        part: &Part,
    ) {
        let pixels = part.rows.len() * self.width;
        let chunks = pixels.div_ceil(CHUNK);
        for (nth, image) in images.enumerate() {
            let planes = self.planes(image, channels.clone());
            for (i, panels) in panels.iter_mut().enumerate() {
                let (to, chunk) = panels.chunks_from(nth * chunks);
                if self.in_place {
                    let first = part.rows.start * self.width;
                    let starts = (0..channels.len()).map(|c| c * self.pixels() + first);
                    copy(isa, planes, starts, pixels, to, chunk);
                } else {
                    part.tables[i].read(isa, planes, channels.len(), to, [CHUNK, chunk]);
                }
            }
        }
    }

    /// The windows of `channels` as rows of pixels: where they lie, or copies.
    pub fn rows(
        &self,
        isa: Isa,
        images: Range<usize>,
        channels: Range<usize>,
        part: &Part,
    ) -> WindowRows<'a> {
        let len = part.rows.len() * self.width;
        if self.in_place {
            let (plane, first) = (self.pixels(), part.rows.start * self.width);
            return WindowRows {
                data: Data::Planes(self.planes),
                rows: channels.map(|c| c * plane + first).collect(),
                far: (plane >= FAR).then_some(plane),
                segments: images.map(|n| n * self.channels * plane).collect(),
                len,
            };
        }
        let (table, taps) = (&part.tables[0], self.taps());
        // Rows a multiple of 128 elements apart would share a few sets of the cache.
        let mut row = len.next_multiple_of(CHUNK);
        if row.is_multiple_of(128) {
            row += CHUNK;
        }
        let image = channels.len() * taps * row;
        let mut data = Workspace::take(images.len() * image);
        for (to, n) in data.chunks_exact_mut(image.max(1)).zip(images.clone()) {
            let planes = self.planes(n, channels.clone());
            table.read(isa, planes, channels.len(), to, [row, CHUNK]);
        }
        WindowRows {
            data: Data::Copy(data),
            rows: (0..channels.len() * taps).map(|i| i * row).collect(),
            far: None,
            segments: (0..images.len()).map(|n| n * image).collect(),
            len,
        }
    }
}

/// Rows of a result, and where the taps read for them.
pub struct Part {
    pub rows: Range<usize>,
    tables: Vec<Table>,
}

/// Rows of windows, one for each channel and tap.
pub struct WindowRows<'a> {
    data: Data<'a>,
    rows: Vec<usize>,
    far: Option<usize>,
    segments: Vec<usize>,
    len: usize,
}

enum Data<'a> {
    Planes(&'a [f32]),
    Copy(Workspace),
}

impl WindowRows<'_> {
    pub fn left(&self) -> Rows<'_> {
        Rows {
            data: match &self.data {
                Data::Planes(planes) => planes,
                Data::Copy(copy) => copy,
            },
            rows: &self.rows,
            far: self.far,
            segments: &self.segments,
            len: self.len,
        }
    }
}
