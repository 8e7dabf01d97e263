//! How a batch is cut into what one task computes, and that into what fits its cache.

use std::ops::Range;

/// Columns of a chunk: the lanes of the widest instruction set.
pub const CHUNK: usize = 16;

/// Depth of a product's parts, about: with [`PIXELS`] columns a quarter of a megabyte (more where a
/// row is longer), which the L2 cache holds, and a tile of rows fits L1.
const DEPTH: usize = 256;
/// Columns of a product, about.
pub const PIXELS: usize = 256;

/// How images are cut: a task has whole images, and takes rows of them at a time. Neither depends
/// on the number of threads.
#[derive(Clone, Copy)]
pub struct Blocks {
    /// Images of a task.
    pub images: usize,
    /// Rows at a time.
    rows: usize,
    /// Height of an image.
    height: usize,
}

impl Blocks {
    /// Blocks of about `pixels` pixels of images of `size`.
    pub fn new([h, w]: [usize; 2], pixels: usize) -> Self {
        let rows = (pixels / w.max(1)).clamp(1, h.max(1));
        // Rows that make whole chunks are written where they belong.
        let whole = (1..=rows).rev().find(|r| (r * w).is_multiple_of(CHUNK));
        Self {
            // (An image has whole chunks.)
            images: (pixels / (h * w).next_multiple_of(CHUNK).max(1)).max(1),
            rows: if rows == h { h } else { whole.unwrap_or(rows) },
            height: h,
        }
    }

    /// The images of task number `block`.
    pub fn images(self, block: usize, batch: usize) -> Range<usize> {
        block * self.images..((block + 1) * self.images).min(batch)
    }

    /// The parts of an image, as rows.
    pub fn parts(self) -> impl Iterator<Item = Range<usize>> {
        let Self { rows, height, .. } = self;
        (0..height)
            .step_by(rows)
            .map(move |y| y..(y + rows).min(height))
    }
}

/// The channels whose taps are multiplied at a time.
pub fn depths(channels: usize, taps: usize) -> impl Iterator<Item = Range<usize>> {
    let step = (DEPTH / taps).max(1);
    (0..channels)
        .step_by(step)
        .map(move |c| c..(c + step).min(channels))
}
