//! One side of a convolution, the input or the output's gradient, as transformed tiles.

use std::ops::Range;

use rayon::prelude::*;

use super::points::Points;
use super::tiles::{Tiling, ToTiles};
use crate::cpu::simd::{dispatch, Isa};
use crate::cpu::workspace::{Shared, Workspace};

/// Tiles that one task of [`Side::to_tiles_parallel`] transforms, about.
const TASK_TILES: usize = 16;

/// One side's planes (batch, channels, h, w), to be cut into tiles (tiles, channels) at each point.
pub struct Side<'a> {
    pub isa: Isa,
    pub tiling: &'a Tiling,
    /// Whether the planes are an output's gradient.
    pub gradient: bool,
    pub planes: &'a [f32],
    pub channels: usize,
}

impl Side<'_> {
    /// The layout of `images` images' tiles. Channels are padded to whole vectors.
    pub fn points(&self, images: usize) -> Points {
        Points {
            rows: images * self.tiling.count(),
            cols: self.channels.next_multiple_of(self.isa.lanes()),
        }
    }

    /// All tiles of `images`.
    pub fn to_tiles(&self, images: Range<usize>) -> Workspace {
        let points = self.points(images.len());
        let mut out = Workspace::take(points.len());
        let first = images.start;
        // SAFETY: `out` has this layout, and nobody else writes it.
        unsafe {
            self.part_to_tiles(
                &Shared::new(&mut out),
                points,
                first,
                images,
                0..self.channels,
            );
        }
        out
    }

    /// All tiles of `images`, by several tasks.
    pub fn to_tiles_parallel(&self, images: Range<usize>) -> Workspace {
        let points = self.points(images.len());
        let mut out = Workspace::take(points.len());
        let shared = Shared::new(&mut out);
        let step = (TASK_TILES / self.tiling.count()).max(1);
        let width = 2 * self.isa.lanes();
        let blocks = self.channels.div_ceil(width);
        (0..images.len().div_ceil(step) * blocks)
            .into_par_iter()
            .for_each(|task| {
                let image = images.start + task / blocks * step;
                let channel = task % blocks * width;
                // SAFETY: `out` has this layout; a task's images and channels are its own.
                unsafe {
                    self.part_to_tiles(
                        &shared,
                        points,
                        images.start,
                        image..(image + step).min(images.end),
                        channel..(channel + width).min(self.channels),
                    );
                }
            });
        out
    }

    /// Tiles of `images` and `channels` (from a whole vector on) into `out`, whose first tile is
    /// that of image `first`.
    ///
    /// # Safety
    /// `out` has the layout `points`, and no other task writes these tiles' channels.
    unsafe fn part_to_tiles(
        &self,
        out: &Shared<'_>,
        points: Points,
        first: usize,
        images: Range<usize>,
        channels: Range<usize>,
    ) {
        let pixels = self.tiling.pixels;
        let planes = &self.planes
            [images.start * self.channels * pixels..images.end * self.channels * pixels];
        let tile = (images.start - first) * self.tiling.count();
        let mut scratch = Workspace::zeroed(self.tiling.scratch_len(self.isa.lanes()));
        // SAFETY: the images' planes are there (indexing checked it), `out` has room for their
        // tiles by the caller's promise, and the instruction set was detected.
        unsafe {
            let kernel = ToTiles {
                tiling: self.tiling,
                gradient: self.gradient,
                images: images.len(),
                planes: planes.as_ptr().add(channels.start * pixels),
                image_step: self.channels * pixels,
                channels: channels.len(),
                out: out.ptr().add(tile * points.cols + channels.start),
                out_point: points.step(),
                out_tile: points.cols,
                scratch: scratch.as_mut_ptr(),
            };
            dispatch(self.isa, kernel);
        }
    }
}
