//! The two products that give planes: forward, and dX.

use std::slice;

use rayon::prelude::*;

use super::filters::{Filters, TransformFilters};
use super::points::{multiply, Part, Points};
use super::side::Side;
use super::tiles::{FromTiles, Tiling};
use super::{fits_by_images, Planes, BLOCK_TILES};
use crate::args::conv2d::Epilogue;
use crate::cpu::simd::{dispatch, Isa};
use crate::cpu::workspace::{Shared, Workspace};

/// Tiles that are transformed before the blocks of output channels start on them.
const CHUNK_TILES: usize = 256;

/// How [`conv`] writes its output.
#[derive(Clone, Copy, Debug)]
pub enum Write<'a> {
    /// Overwrites it.
    Overwrite(Epilogue<&'a [f32]>),
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
        tiling: &tiling,
        x: Side {
            isa,
            tiling: &tiling,
            gradient: false,
            planes: x,
            channels: planes.from,
        },
        filters,
        write,
        out: Shared::new(out),
    };
    // Images that are one block would be one task.
    let several = planes.batch * tiling.count() > BLOCK_TILES;
    if several && fits_by_images(&planes, tiling.count()) {
        job.by_images();
    } else {
        job.by_channels();
    }
}

struct Conv<'a> {
    isa: Isa,
    lanes: usize,
    planes: Planes,
    tiling: &'a Tiling,
    x: Side<'a>,
    filters: Filters<'a>,
    write: Write<'a>,
    out: Shared<'a>,
}

impl Conv<'_> {
    /// Filters first, all of them; then every block of images on its own.
    fn by_images(&self) {
        let Planes {
            batch, from, to, ..
        } = self.planes;
        let u_points = Points {
            rows: from,
            cols: to.next_multiple_of(self.lanes),
        };
        let mut u = Workspace::<f32>::take(u_points.len());
        let shared = Shared::new(&mut u);
        (0..to.div_ceil(self.lanes))
            .into_par_iter()
            .for_each(|block| {
                let first = block * self.lanes;
                // SAFETY: each task writes columns first..first + lanes of U, which are its own.
                unsafe { self.transform_filters(first, self.lanes, &shared, first, u_points) }
            });
        let u = &u;
        let images = (BLOCK_TILES / self.tiling.count()).max(1);
        let width = u_points.cols.min(4 * self.lanes);
        (0..batch.div_ceil(images))
            .into_par_iter()
            .for_each(|block| {
                let range = block * images..((block + 1) * images).min(batch);
                let v = self.x.to_tiles(range.clone());
                let v_points = self.x.points(range.len());
                for col in (0..u_points.cols).step_by(width) {
                    let m_points = Points {
                        rows: v_points.rows,
                        cols: width.min(u_points.cols - col),
                    };
                    let mut m = Workspace::take(m_points.len());
                    // (tiles, from) x (from, to) -> (tiles, to)
                    // SAFETY: the parts lie in buffers of these layouts; the images are this
                    // task's own.
                    unsafe {
                        multiply(
                            self.isa,
                            [m_points.rows, m_points.cols, from],
                            Part::of(&v, v_points, 0, 0),
                            Part::of(u, u_points, 0, col),
                            Part::whole(&mut m, m_points),
                            false,
                        );
                        let count = m_points.cols.min(to - col);
                        self.write_output(&m, m_points, range.start, range.len(), col, count);
                    }
                }
            });
    }

    /// Tiles first, a chunk of them; then every block of output channels on its own.
    fn by_channels(&self) {
        let Planes {
            batch, from, to, ..
        } = self.planes;
        let chunk = (CHUNK_TILES / self.tiling.count()).max(1);
        let width = 2 * self.lanes;
        for first in (0..batch).step_by(chunk) {
            let images = chunk.min(batch - first);
            let v = self.x.to_tiles_parallel(first..first + images);
            let v_points = self.x.points(images);
            (0..to.div_ceil(width)).into_par_iter().for_each(|block| {
                let col = block * width;
                let count = width.min(to - col);
                let u_points = Points {
                    rows: from,
                    cols: count.next_multiple_of(self.lanes),
                };
                let m_points = Points {
                    rows: v_points.rows,
                    cols: u_points.cols,
                };
                let mut u = Workspace::take(u_points.len());
                let mut m = Workspace::take(m_points.len());
                // (tiles, from) x (from, to) -> (tiles, to)
                // SAFETY: the parts lie in buffers of these layouts; channels col..col + count of
                // the output are this task's own.
                unsafe {
                    self.transform_filters(col, count, &Shared::new(&mut u), 0, u_points);
                    multiply(
                        self.isa,
                        [m_points.rows, m_points.cols, from],
                        Part::of(&v, v_points, 0, 0),
                        Part::of(&u, u_points, 0, 0),
                        Part::whole(&mut m, m_points),
                        false,
                    );
                    self.write_output(&m, m_points, first, images, col, count);
                }
            });
        }
    }

    /// The filters to channels `to..to + count` (those that there are), into columns `col` on.
    ///
    /// # Safety
    /// `out` has the layout `points`, and no other task writes these columns.
    unsafe fn transform_filters(
        &self,
        to: usize,
        count: usize,
        out: &Shared<'_>,
        col: usize,
        points: Points,
    ) {
        // SAFETY: the caller's promise; the instruction set was detected.
        unsafe {
            let kernel = TransformFilters {
                filters: self.filters,
                from: self.planes.from,
                to,
                count: count.min(self.planes.to - to),
                out: out.ptr().add(col),
                out_point: points.step(),
                out_row: points.cols,
            };
            dispatch(self.isa, kernel);
        }
    }

    /// Channels `to..to + count` of `images` images from `first` on.
    ///
    /// # Safety
    /// `m` has the layout `points`, and no other task writes these channels of these images.
    unsafe fn write_output(
        &self,
        m: &[f32],
        points: Points,
        first: usize,
        images: usize,
        to: usize,
        count: usize,
    ) {
        let pixels = self.tiling.pixels;
        let mut scratch = Workspace::take(self.tiling.scratch_len(self.lanes));
        let (then, accumulate) = match self.write {
            Write::Overwrite(then) => (then, false),
            Write::Accumulate => (Epilogue::bias(None), true),
        };
        let start = (first * self.planes.to + to) * pixels;
        let image_step = self.planes.to * pixels;
        // SAFETY: the planes lie inside `out`, whose length `conv` checked; the instruction set
        // was detected.
        unsafe {
            let kernel = FromTiles {
                tiling: self.tiling,
                images,
                tiles: m.as_ptr(),
                point: points.step(),
                tile: points.cols,
                channels: count,
                planes: self.out.ptr().add(start),
                image_step,
                bias: then.bias.map(|bias| &bias[to..]),
                accumulate,
                scratch: scratch.as_mut_ptr(),
            };
            dispatch(self.isa, kernel);
            for at in (0..images).map(|image| start + image * image_step) {
                let planes = slice::from_raw_parts_mut(self.out.ptr().add(at), count * pixels);
                then.finish(at, planes);
            }
        }
    }
}
