//! The product that gives the filters' gradient.

use rayon::prelude::*;

use super::filters::FilterGradients;
use super::points::{multiply, Part, Points};
use super::side::Side;
use super::tiles::Tiling;
use super::{fits_by_images, Planes, BLOCK_TILES};
use crate::args::conv2d::OutputGrad;
use crate::cpu::conv2d::rows::kept_rows;
use crate::cpu::simd::{dispatch, Isa};
use crate::cpu::workspace::Workspace;

/// Tiles that are transformed before the blocks of dW start on them.
const CHUNK_TILES: usize = 1024;
/// Partial sums, at most, where images are cut into blocks.
const MAX_PARTS: usize = 8;
/// Rows of a block of dW, and its columns in vectors.
const BLOCK: [usize; 2] = [64, 8];

/// dW (rows of kept channels, or all) += the filters' gradient for x (batch, c_in, h, w) and
/// dY (batch, kept, h, w). `planes.from` is C_in, `planes.to` the number of kept channels.
pub fn gradient(isa: Isa, planes: Planes, x: &[f32], dy: OutputGrad<'_, &[f32]>, dw: &mut [f32]) {
    let tiling = Tiling::new(planes.size[0], planes.size[1]);
    assert_eq!(x.len(), planes.batch * planes.from * tiling.pixels);
    assert_eq!(dy.data.len(), planes.batch * planes.to * tiling.pixels);
    if planes.batch == 0 {
        return;
    }
    let side = |planes, channels, gradient| Side {
        isa,
        tiling: &tiling,
        gradient,
        planes,
        channels,
    };
    let job = Gradient {
        isa,
        planes,
        tiling: &tiling,
        x: side(x, planes.from, false),
        dy: side(dy.data, planes.to, true),
    };
    let mut rows = kept_rows(dw, planes.from * 9, dy.kept);
    assert_eq!(rows.len(), planes.to);
    if fits_by_images(&planes, tiling.count()) {
        job.by_images(&mut rows);
    } else {
        job.by_channels(&mut rows);
    }
}

struct Gradient<'a> {
    isa: Isa,
    planes: Planes,
    tiling: &'a Tiling,
    x: Side<'a>,
    dy: Side<'a>,
}

impl Gradient<'_> {
    /// Blocks of images in a few parts, each with a sum of its own; then the sums' sum.
    fn by_images(&self, rows: &mut [&mut [f32]]) {
        let Planes { batch, to, .. } = self.planes;
        let images = (BLOCK_TILES / self.tiling.count()).max(1);
        let blocks = batch.div_ceil(images);
        let parts = blocks.min(MAX_PARTS);
        let points = Points {
            rows: to,
            cols: self.x.points(0).cols,
        };
        let mut sums = Workspace::take(parts * points.len());
        sums.par_chunks_mut(points.len())
            .enumerate()
            .for_each(|(part, sum)| {
                let mine = part * blocks / parts..(part + 1) * blocks / parts;
                for (nth, block) in mine.enumerate() {
                    let range = block * images..((block + 1) * images).min(batch);
                    let v = self.x.to_tiles(range.clone());
                    let d = self.dy.to_tiles(range.clone());
                    self.multiply(&d, &v, range.len(), [0, 0], sum, points, nth > 0);
                }
            });
        let sums = &sums;
        rows.par_iter_mut().enumerate().for_each(|(row, dw)| {
            self.finish(sums, parts, points, row, dw);
        });
    }

    /// Tiles first, a chunk of them; then every block of dW on its own.
    fn by_channels(&self, rows: &mut [&mut [f32]]) {
        let batch = self.planes.batch;
        let chunk = (CHUNK_TILES / self.tiling.count()).max(1);
        let width = BLOCK[1] * self.isa.lanes();
        for first in (0..batch).step_by(chunk) {
            let range = first..(first + chunk).min(batch);
            let v = self.x.to_tiles_parallel(range.clone());
            let d = self.dy.to_tiles_parallel(range.clone());
            let (v, d) = (&v, &d);
            blocks_of_rows(rows, 9 * width)
                .into_par_iter()
                .for_each(|(row, piece, pieces)| {
                    let col = piece * width;
                    let points = Points {
                        rows: pieces.len(),
                        cols: width.min(self.x.points(0).cols - col),
                    };
                    let mut sum = Workspace::take(points.len());
                    self.multiply(d, v, range.len(), [row, col], &mut sum, points, false);
                    for (i, dw) in pieces.into_iter().enumerate() {
                        self.finish(&sum, 1, points, i, dw);
                    }
                });
        }
    }

    /// N (kept, C_in) = or += Dt (kept, tiles) * V (tiles, C_in), from row and column `at` on, as
    /// many as `points` has. `d` and `v` hold the tiles of `images` images.
    #[allow(clippy::too_many_arguments)]
    fn multiply(
        &self,
        d: &[f32],
        v: &[f32],
        images: usize,
        at: [usize; 2],
        sum: &mut [f32],
        points: Points,
        accumulate: bool,
    ) {
        let (d_points, v_points) = (self.dy.points(images), self.x.points(images));
        assert!(at[0] + points.rows <= d_points.cols && at[1] + points.cols <= v_points.cols);
        // SAFETY: the parts lie in buffers of these layouts (just checked); the instruction set
        // was detected.
        unsafe {
            multiply(
                self.isa,
                [points.rows, points.cols, v_points.rows],
                Part::of(d, d_points, 0, at[0]).transposed(),
                Part::of(v, v_points, 0, at[1]),
                Part::whole(sum, points),
                accumulate,
            );
        }
    }

    /// Adds row `row` of the sums, `parts` times `points`, to dW.
    fn finish(&self, sums: &[f32], parts: usize, points: Points, row: usize, dw: &mut [f32]) {
        assert!(parts > 0 && sums.len() >= parts * points.len());
        assert!(row < points.rows && dw.len() <= 9 * points.cols);
        // SAFETY: the sums are there (just checked); the instruction set was detected.
        unsafe {
            let kernel = FilterGradients {
                transformed: sums.as_ptr().add(row * points.cols),
                parts,
                part: points.len(),
                point: points.step(),
                dw,
            };
            dispatch(self.isa, kernel);
        }
    }
}

/// Cuts rows into blocks: the first row's index, the piece's index along the rows, and the piece of
/// each row.
fn blocks_of_rows<'a>(
    rows: &'a mut [&mut [f32]],
    piece_len: usize,
) -> Vec<(usize, usize, Vec<&'a mut [f32]>)> {
    let pieces = rows.first().map_or(0, |row| row.len().div_ceil(piece_len));
    let mut blocks = Vec::new();
    for (block, rows) in rows.chunks_mut(BLOCK[0]).enumerate() {
        let first = blocks.len();
        blocks.extend((0..pieces).map(|piece| (block * BLOCK[0], piece, Vec::new())));
        for row in rows {
            for (piece, part) in row.chunks_mut(piece_len).enumerate() {
                blocks[first + piece].2.push(part);
            }
        }
    }
    blocks
}
