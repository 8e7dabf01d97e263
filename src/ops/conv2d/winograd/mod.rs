//! 3x3 convolutions of stride 1 and padding 1 by Winograd's minimal filtering, F(4x4, 3x3): 36
//! multiplications for 16 outputs instead of 144, in all three products.
//!
//! With V = Bt x B the transformed input tiles, U = G w Gt the transformed filters and
//! D = A dY At the transformed output gradient, at each of the 36 points:
//!
//! - forward: M (tiles, C_out) = V (tiles, C_in) * U (C_in, C_out), y = At M A;
//! - dX: the same with dY for x and the filters turned round and transposed;
//! - dW: N (C_out, C_in) = Dt (C_out, tiles) * V (tiles, C_in), dW = Gt N G.
//!
//! Work is cut into blocks that fit a core's cache: of images where the filters are few, of output
//! channels where they are many. The blocks do not depend on the number of threads.

mod filters;
mod tiles;
mod transform;

use rayon::prelude::*;

pub use filters::Filters;
use filters::{FilterGradients, TransformFilters};
use tiles::{FromTiles, Tiling, ToTiles, POINTS};

use crate::simd::matmul::MatMul;
use crate::simd::{dispatch, Isa};
use crate::workspace::{Shared, Workspace};

/// Tiles of one block of images.
const BLOCK_TILES: usize = 64;
/// Tiles that are transformed before the blocks of output channels start on them.
const CHUNK_TILES: usize = 256;
/// The same for dW, which reads them once a block of channels.
const GRADIENT_CHUNK_TILES: usize = 1024;
/// Up to this many elements the transformed filters are kept whole and images are cut into blocks.
const FEW_FILTERS: usize = 640 * 1024;
/// Partial sums of dW, at most, where images are cut into blocks.
const MAX_PARTS: usize = 8;

/// The planes of one side: (batch, channels, h, w).
#[derive(Clone, Copy, Debug)]
pub struct Planes {
    /// Images.
    pub batch: usize,
    /// Height and width.
    pub size: [usize; 2],
    /// Channels of the side that is read.
    pub from: usize,
    /// Channels of the side that is written.
    pub to: usize,
}

/// How [`conv`] writes its output.
#[derive(Clone, Copy, Debug)]
pub enum Write<'a> {
    /// Overwrites it, after adding the bias.
    Bias(Option<&'a [f32]>),
    /// Adds to it.
    Accumulate,
}

/// out (batch, to, h, w) = x (batch, from, h, w) convolved with `filters`.
pub fn conv(
    isa: Isa,
    planes: Planes,
    x: &[f32],
    filters: Filters<'_>,
    out: &mut [f32],
    write: Write<'_>,
) {
    let tiling = Tiling::new(planes.size[0], planes.size[1]);
    assert_eq!(x.len(), planes.batch * planes.from * tiling.pixels);
    assert_eq!(out.len(), planes.batch * planes.to * tiling.pixels);
    let job = Conv {
        isa,
        lanes: isa.lanes(),
        planes,
        tiling,
        x,
        filters,
        write,
    };
    let out = Shared::new(out);
    if POINTS * planes.from * planes.to <= FEW_FILTERS {
        job.by_images(&out);
    } else {
        job.by_channels(&out);
    }
}

struct Conv<'a> {
    isa: Isa,
    lanes: usize,
    planes: Planes,
    tiling: Tiling,
    x: &'a [f32],
    filters: Filters<'a>,
    write: Write<'a>,
}

impl Conv<'_> {
    /// Filters first, all of them; then every block of images on its own.
    fn by_images(&self, out: &Shared) {
        let Planes {
            batch, from, to, ..
        } = self.planes;
        let (from_len, to_len) = (self.padded(from), self.padded(to));
        let mut u = Workspace::<f32>::take(POINTS * from * to_len);
        let u_shared = Shared::new(&mut u);
        (0..to.div_ceil(self.lanes))
            .into_par_iter()
            .for_each(|block| {
                let first = block * self.lanes;
                // SAFETY: each task writes columns first..first + lanes of U, which are its own.
                unsafe {
                    let out = u_shared.ptr().add(first);
                    self.transform_filters(first, self.lanes, out, from * to_len, to_len);
                }
            });
        let u = &u;
        let images = (BLOCK_TILES / self.tiling.count()).max(1);
        let width = to_len.min(4 * self.lanes);
        (0..batch.div_ceil(images))
            .into_par_iter()
            .for_each(|block| {
                let first = block * images;
                let images = images.min(batch - first);
                let tiles = images * self.tiling.count();
                let mut v = Workspace::take(POINTS * tiles * from_len);
                let mut m = Workspace::take(POINTS * tiles * width);
                self.transform_input(
                    &Shared::new(&mut v),
                    first..first + images,
                    0..from,
                    first,
                    tiles,
                );
                for col in (0..to_len).step_by(width) {
                    let cols = width.min(to_len - col);
                    // SAFETY: U has (POINTS, from, to_len) elements, of which columns
                    // col..col + cols are read; the images are this task's own.
                    unsafe {
                        let u = u.as_ptr().add(col);
                        self.multiply(&v, tiles, u, from * to_len, to_len, &mut m, cols);
                        let count = cols.min(to - col);
                        self.write_output(&m, cols, out, first, images, col, count);
                    }
                }
            });
    }

    /// Tiles first, a chunk of them; then every block of output channels on its own.
    fn by_channels(&self, out: &Shared) {
        let Planes {
            batch, from, to, ..
        } = self.planes;
        let from_len = self.padded(from);
        let chunk = (CHUNK_TILES / self.tiling.count()).max(1);
        let width = 2 * self.lanes;
        for first in (0..batch).step_by(chunk) {
            let images = chunk.min(batch - first);
            let tiles = images * self.tiling.count();
            let mut v = Workspace::take(POINTS * tiles * from_len);
            self.transform_input_parallel(&Shared::new(&mut v), first, images, from);
            let v = &v;
            (0..to.div_ceil(width)).into_par_iter().for_each(|block| {
                let col = block * width;
                let count = width.min(to - col);
                let cols = self.padded(count);
                let mut u = Workspace::take(POINTS * from * cols);
                let mut m = Workspace::take(POINTS * tiles * cols);
                // SAFETY: U has (POINTS, from, cols) elements; channels col..col + count of the
                // output are this task's own.
                unsafe {
                    self.transform_filters(col, count, u.as_mut_ptr(), from * cols, cols);
                    self.multiply(v, tiles, u.as_ptr(), from * cols, cols, &mut m, cols);
                    self.write_output(&m, cols, out, first, images, col, count);
                }
            });
        }
    }

    fn padded(&self, channels: usize) -> usize {
        channels.next_multiple_of(self.lanes)
    }

    /// The filters to channels `to..to + count` (those that there are).
    ///
    /// # Safety
    /// `out` has room for (POINTS, from, count) with the strides given.
    unsafe fn transform_filters(
        &self,
        to: usize,
        count: usize,
        out: *mut f32,
        out_point: usize,
        out_row: usize,
    ) {
        let kernel = TransformFilters {
            filters: self.filters,
            from: self.planes.from,
            to,
            count: count.min(self.planes.to - to),
            out,
            out_point,
            out_row,
        };
        // SAFETY: the caller's promise; the instruction set was detected.
        unsafe { dispatch(self.isa, kernel) }
    }

    /// Tiles of `images` and `channels` into V (POINTS, tiles, padded from), whose first tile is
    /// that of image `origin`.
    fn transform_input(
        &self,
        v: &Shared,
        images: std::ops::Range<usize>,
        channels: std::ops::Range<usize>,
        origin: usize,
        tiles: usize,
    ) {
        let side = Side {
            isa: self.isa,
            tiling: &self.tiling,
            gradient: false,
            planes: self.x,
            channels: self.planes.from,
        };
        side.to_tiles(v, images, channels, origin, tiles);
    }

    fn transform_input_parallel(&self, v: &Shared, first: usize, images: usize, from: usize) {
        let side = Side {
            isa: self.isa,
            tiling: &self.tiling,
            gradient: false,
            planes: self.x,
            channels: from,
        };
        side.to_tiles_parallel(v, first, images);
    }

    /// M (POINTS, tiles, cols) = V (POINTS, tiles, from) * U (POINTS, from, cols).
    ///
    /// # Safety
    /// `u` is valid for reads of (POINTS, from, cols) with the strides given.
    #[allow(clippy::too_many_arguments)]
    unsafe fn multiply(
        &self,
        v: &[f32],
        tiles: usize,
        u: *const f32,
        u_point: usize,
        u_row: usize,
        m: &mut [f32],
        cols: usize,
    ) {
        let from = self.planes.from;
        let from_len = self.padded(from);
        for point in 0..POINTS {
            // SAFETY: V and M have the sizes that the callers took them with, U by the caller's
            // promise; the instruction set was detected.
            unsafe {
                let product = MatMul {
                    rows: tiles,
                    cols,
                    depth: from,
                    a: v.as_ptr().add(point * tiles * from_len),
                    a_row: from_len,
                    a_col: 1,
                    b: u.add(point * u_point),
                    b_row: u_row,
                    c: m.as_mut_ptr().add(point * tiles * cols),
                    c_row: cols,
                    accumulate: false,
                };
                dispatch(self.isa, product);
            }
        }
    }

    /// Channels `to..to + count` of images `first..first + images` from M (POINTS, tiles, cols).
    ///
    /// # Safety
    /// No other task writes these channels of these images.
    #[allow(clippy::too_many_arguments)]
    unsafe fn write_output(
        &self,
        m: &[f32],
        cols: usize,
        out: &Shared,
        first: usize,
        images: usize,
        to: usize,
        count: usize,
    ) {
        let pixels = self.tiling.pixels;
        let mut scratch = Workspace::take(self.tiling.scratch_len(self.lanes));
        let (bias, accumulate) = match self.write {
            Write::Bias(bias) => (bias.map(|bias| &bias[to..]), false),
            Write::Accumulate => (None, true),
        };
        // SAFETY: the planes lie inside `out`, whose length `conv` checked.
        unsafe {
            let kernel = FromTiles {
                tiling: &self.tiling,
                images,
                tiles: m.as_ptr(),
                point: images * self.tiling.count() * cols,
                tile: cols,
                channels: count,
                planes: out.ptr().add((first * self.planes.to + to) * pixels),
                image_step: self.planes.to * pixels,
                bias,
                accumulate,
                scratch: scratch.as_mut_ptr(),
            };
            dispatch(self.isa, kernel);
        }
    }
}

/// One side's planes, to be cut into transformed tiles (POINTS, tiles, padded channels).
struct Side<'a> {
    isa: Isa,
    tiling: &'a Tiling,
    gradient: bool,
    planes: &'a [f32],
    channels: usize,
}

impl Side<'_> {
    fn row_len(&self) -> usize {
        self.channels.next_multiple_of(self.isa.lanes())
    }

    /// Tiles of `images` and `channels` (whole vectors, but for the last) into `out`, which holds
    /// `tiles` tiles from image `origin` on.
    fn to_tiles(
        &self,
        out: &Shared,
        images: std::ops::Range<usize>,
        channels: std::ops::Range<usize>,
        origin: usize,
        tiles: usize,
    ) {
        let pixels = self.tiling.pixels;
        let mut scratch = Workspace::zeroed(self.tiling.scratch_len(self.isa.lanes()));
        let first_tile = (images.start - origin) * self.tiling.count();
        // SAFETY: the planes are there (`conv` and `gradient` check the lengths) and `out` has
        // room for (POINTS, tiles, row_len), of which this call writes its own tiles and channels.
        unsafe {
            let kernel = ToTiles {
                tiling: self.tiling,
                gradient: self.gradient,
                images: images.len(),
                planes: self
                    .planes
                    .as_ptr()
                    .add((images.start * self.channels + channels.start) * pixels),
                image_step: self.channels * pixels,
                channels: channels.len(),
                out: out.ptr().add(first_tile * self.row_len() + channels.start),
                out_point: tiles * self.row_len(),
                out_tile: self.row_len(),
                scratch: scratch.as_mut_ptr(),
            };
            dispatch(self.isa, kernel);
        }
    }

    /// All channels of images `first..first + images`, in blocks.
    fn to_tiles_parallel(&self, out: &Shared, first: usize, images: usize) {
        let tiles = images * self.tiling.count();
        let step = (16 / self.tiling.count()).max(1);
        let lanes = self.isa.lanes();
        let channel_blocks = self.channels.div_ceil(2 * lanes);
        (0..images.div_ceil(step) * channel_blocks)
            .into_par_iter()
            .for_each(|task| {
                let image = first + task / channel_blocks * step;
                let channel = task % channel_blocks * 2 * lanes;
                self.to_tiles(
                    out,
                    image..(image + step).min(first + images),
                    channel..(channel + 2 * lanes).min(self.channels),
                    first,
                    tiles,
                );
            });
    }
}

/// dW (rows of `kept`, or all) += the filters' gradient for x (batch, c_in, h, w) and
/// dY (batch, kept, h, w). `planes.from` is C_in, `planes.to` the number of kept channels.
pub fn gradient(
    isa: Isa,
    planes: Planes,
    x: &[f32],
    dy: &[f32],
    kept: Option<&[usize]>,
    dw: &mut [f32],
) {
    let tiling = Tiling::new(planes.size[0], planes.size[1]);
    assert_eq!(x.len(), planes.batch * planes.from * tiling.pixels);
    assert_eq!(dy.len(), planes.batch * planes.to * tiling.pixels);
    if planes.batch == 0 {
        return;
    }
    let job = Gradient {
        isa,
        planes,
        tiling: &tiling,
        x: Side {
            isa,
            tiling: &tiling,
            gradient: false,
            planes: x,
            channels: planes.from,
        },
        dy: Side {
            isa,
            tiling: &tiling,
            gradient: true,
            planes: dy,
            channels: planes.to,
        },
    };
    // The rows of dW that are written, in the order of dY's channels.
    let row_len = planes.from * 9;
    let mut rows: Vec<&mut [f32]> = match kept {
        None => dw.chunks_mut(row_len).collect(),
        Some(kept) => {
            let mut next = kept.iter().copied().peekable();
            dw.chunks_mut(row_len)
                .enumerate()
                .filter(|(k, _)| next.next_if_eq(k).is_some())
                .map(|(_, row)| row)
                .collect()
        }
    };
    assert_eq!(rows.len(), planes.to);
    if POINTS * planes.from * planes.to <= FEW_FILTERS {
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
        let (batch, to) = (self.planes.batch, self.planes.to);
        let (x_len, dy_len) = (self.x.row_len(), self.dy.row_len());
        let images = (BLOCK_TILES / self.tiling.count()).max(1);
        let blocks = batch.div_ceil(images);
        let parts = blocks.min(MAX_PARTS);
        let part_len = POINTS * to * x_len;
        let mut sums = Workspace::take(parts * part_len);
        sums.par_chunks_mut(part_len)
            .enumerate()
            .for_each(|(part, sum)| {
                let mine = part * blocks / parts..(part + 1) * blocks / parts;
                for (nth, block) in mine.enumerate() {
                    let first = block * images;
                    let images = images.min(batch - first);
                    let tiles = images * self.tiling.count();
                    let mut v = Workspace::take(POINTS * tiles * x_len);
                    let mut d = Workspace::take(POINTS * tiles * dy_len);
                    let range = first..first + images;
                    let (v_out, d_out) = (Shared::new(&mut v), Shared::new(&mut d));
                    self.x
                        .to_tiles(&v_out, range.clone(), 0..self.planes.from, first, tiles);
                    self.dy.to_tiles(&d_out, range, 0..to, first, tiles);
                    self.multiply(&d, 0..to, &v, 0..x_len, tiles, sum, nth > 0);
                }
            });
        let sums = &sums;
        rows.par_iter_mut().enumerate().for_each(|(row, dw)| {
            self.finish(sums, parts, to, x_len, row, dw);
        });
    }

    /// Tiles first, a chunk of them; then every block of dW on its own.
    fn by_channels(&self, rows: &mut [&mut [f32]]) {
        let (batch, from, to) = (self.planes.batch, self.planes.from, self.planes.to);
        let (x_len, dy_len) = (self.x.row_len(), self.dy.row_len());
        let lanes = self.isa.lanes();
        let chunk = (GRADIENT_CHUNK_TILES / self.tiling.count()).max(1);
        let (row_step, col_step) = (64, 8 * lanes);
        for first in (0..batch).step_by(chunk) {
            let images = chunk.min(batch - first);
            let tiles = images * self.tiling.count();
            let mut v = Workspace::take(POINTS * tiles * x_len);
            let mut d = Workspace::take(POINTS * tiles * dy_len);
            self.x
                .to_tiles_parallel(&Shared::new(&mut v), first, images);
            self.dy
                .to_tiles_parallel(&Shared::new(&mut d), first, images);
            let (v, d) = (&v, &d);
            rows.par_chunks_mut(row_step)
                .enumerate()
                .flat_map_iter(|(block, rows)| {
                    // A task for each block of columns of these rows.
                    let mut cut: Vec<Vec<&mut [f32]>> = Vec::new();
                    for row in rows.iter_mut() {
                        for (i, piece) in row.chunks_mut(9 * col_step).enumerate() {
                            if cut.len() <= i {
                                cut.push(Vec::new());
                            }
                            cut[i].push(piece);
                        }
                    }
                    cut.into_iter()
                        .enumerate()
                        .map(move |(i, pieces)| (block * row_step, i * col_step, pieces))
                })
                .for_each(|(row, col, pieces)| {
                    let count = pieces.len();
                    let cols = col_step.min(x_len - col);
                    debug_assert!(col + pieces[0].len() / 9 <= from && row + count <= to);
                    let mut sum = Workspace::take(POINTS * count * cols);
                    self.multiply(
                        d,
                        row..row + count,
                        v,
                        col..col + cols,
                        tiles,
                        &mut sum,
                        false,
                    );
                    for (i, dw) in pieces.into_iter().enumerate() {
                        self.finish(&sum, 1, count, cols, i, dw);
                    }
                });
        }
    }

    /// N (POINTS, rows, cols) = or += Dt (POINTS, rows, tiles) * V (POINTS, tiles, cols).
    #[allow(clippy::too_many_arguments)]
    fn multiply(
        &self,
        d: &[f32],
        rows: std::ops::Range<usize>,
        v: &[f32],
        cols: std::ops::Range<usize>,
        tiles: usize,
        sum: &mut [f32],
        accumulate: bool,
    ) {
        let (x_len, dy_len) = (self.x.row_len(), self.dy.row_len());
        assert!(d.len() >= POINTS * tiles * dy_len && v.len() >= POINTS * tiles * x_len);
        assert!(rows.end <= dy_len && cols.end <= x_len);
        assert!(sum.len() >= POINTS * rows.len() * cols.len());
        for point in 0..POINTS {
            // SAFETY: the three buffers hold what is read and written (just checked); the
            // instruction set was detected.
            unsafe {
                let product = MatMul {
                    rows: rows.len(),
                    cols: cols.len(),
                    depth: tiles,
                    a: d.as_ptr().add(point * tiles * dy_len + rows.start),
                    a_row: 1,
                    a_col: dy_len,
                    b: v.as_ptr().add(point * tiles * x_len + cols.start),
                    b_row: x_len,
                    c: sum.as_mut_ptr().add(point * rows.len() * cols.len()),
                    c_row: cols.len(),
                    accumulate,
                };
                dispatch(self.isa, product);
            }
        }
    }

    /// Adds row `row` of the sums (parts, POINTS, rows, row_len) to dW.
    fn finish(
        &self,
        sums: &[f32],
        parts: usize,
        rows: usize,
        row_len: usize,
        row: usize,
        dw: &mut [f32],
    ) {
        assert!(parts > 0 && row < rows);
        assert!(sums.len() >= parts * POINTS * rows * row_len);
        assert!(dw.len() <= 9 * row_len);
        // SAFETY: the sums are there (just checked); the instruction set was detected.
        unsafe {
            let kernel = FilterGradients {
                transformed: sums.as_ptr(),
                parts,
                rows,
                row_len,
                row,
                dw,
            };
            dispatch(self.isa, kernel);
        }
    }
}

#[cfg(test)]
mod tests;
