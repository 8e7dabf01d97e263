//! Between planes (channel by channel, as tensors are) and transformed tiles (point by point, the
//! channels of a tile side by side, as the matrix products want them).
//!
//! A block of channels, as many as a vector has lanes, is first transposed into a scratch image
//! whose pixels hold the block's channels; after that everything is vertical.

use super::transform::{both_axes, Input, Output, OutputGradient};
use crate::cpu::simd::{Simd, SimdKernel};

/// Points of a transformed tile, 6 x 6.
pub const POINTS: usize = 36;
/// Output pixels of a tile along one axis.
pub const TILE: usize = 4;

/// How images are cut into tiles.
///
/// Where tiles do not come out even, the last one does not reach beyond the image: it begins earlier,
/// and the pixels that it has in common with the one before are that one's. (Beyond the image all is
/// zero, so that a tile which reached there would not be flat where the image is.)
#[derive(Clone, Debug)]
pub struct Tiling {
    /// Tiles along height and width.
    pub tiles: [usize; 2],
    /// Pixels of a plane, H * W.
    pub pixels: usize,
    /// The first row of each row of tiles, and the first column of each column of tiles.
    starts: [Vec<usize>; 2],
    /// Where each pixel lies in a scratch image: tile after tile, or as in the image, with one pixel
    /// around.
    positions: [Vec<u32>; 2],
}

impl Tiling {
    /// The tiles of an h x w plane.
    pub fn new(h: usize, w: usize) -> Self {
        let tiles = [h.div_ceil(TILE), w.div_ceil(TILE)];
        // An axis of less than a tile begins with it.
        let start = |tile: usize, len: usize| (TILE * tile).min(len.saturating_sub(TILE));
        let starts = [(h, tiles[0]), (w, tiles[1])]
            .map(|(len, tiles)| (0..tiles).map(|tile| start(tile, len)).collect());
        let in_tiles = |i: usize, len: usize| i + TILE * (i / TILE) - start(i / TILE, len);
        let width = TILE * tiles[1];
        let pixels = || (0..h * w).map(|q| (q / w, q % w));
        let positions = [
            (pixels().map(|(y, x)| (in_tiles(y, h) * width + in_tiles(x, w)) as u32)).collect(),
            (pixels().map(|(y, x)| ((y + 1) * (width + 2) + x + 1) as u32)).collect(),
        ];
        Self {
            tiles,
            pixels: h * w,
            starts,
            positions,
        }
    }

    /// Tiles of one image.
    pub fn count(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }

    /// Elements of the scratch image for vectors of `lanes`.
    pub fn scratch_len(&self, lanes: usize) -> usize {
        (TILE * self.tiles[0] + 2) * (TILE * self.tiles[1] + 2) * lanes
    }
}

/// Planes of several images to tiles: the input's with a halo of one pixel, or the output
/// gradient's without.
pub struct ToTiles<'a> {
    pub tiling: &'a Tiling,
    /// Whether the planes are an output gradient.
    pub gradient: bool,
    pub images: usize,
    /// First plane of the first image.
    pub planes: *const f32,
    /// From an image's first plane to the next image's.
    pub image_step: usize,
    /// Channels to take, from the first plane on.
    pub channels: usize,
    /// Where the first channel of the first tile goes, at point 0.
    pub out: *mut f32,
    /// From a point to the next, and from a tile to the next.
    pub out_point: usize,
    pub out_tile: usize,
    /// `scratch_len` elements, all zero.
    pub scratch: *mut f32,
}

impl SimdKernel for ToTiles<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let halo = usize::from(!self.gradient);
        let width = TILE * self.tiling.tiles[1] + 2 * halo;
        for image in 0..self.images {
            for first in (0..self.channels).step_by(S::LANES) {
                // SAFETY: the caller gives planes for images x channels, a scratch image with the
                // halo, and room for every tile's points; the last block of channels is padded to
                // whole vectors with zeros, for which `out_tile` has room.
                unsafe {
                    let planes = self
                        .planes
                        .add(image * self.image_step + first * self.tiling.pixels);
                    self.fill_scratch::<S>(planes, (self.channels - first).min(S::LANES), halo);
                    for ty in 0..self.tiling.tiles[0] {
                        for tx in 0..self.tiling.tiles[1] {
                            let tile = image * self.tiling.count() + ty * self.tiling.tiles[1] + tx;
                            let out = self.out.add(tile * self.out_tile + first);
                            let (y, x) = match self.gradient {
                                true => (ty * TILE, tx * TILE),
                                false => (self.tiling.starts[0][ty], self.tiling.starts[1][tx]),
                            };
                            let from = self.scratch.add((y * width + x) * S::LANES);
                            let load = |row, col| S::load(from.add((row * width + col) * S::LANES));
                            let store = |row, col, v| {
                                S::store(out.add((row * 6 + col) * self.out_point), v);
                            };
                            if self.gradient {
                                both_axes::<S, OutputGradient, 4, 6>(load, store);
                            } else {
                                both_axes::<S, Input, 6, 6>(load, store);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl ToTiles<'_> {
    /// Transposes `channels` planes into the scratch image; lanes beyond them become zero.
    #[inline(always)]
    unsafe fn fill_scratch<S: Simd>(&self, planes: *const f32, channels: usize, halo: usize) {
        let pixels = self.tiling.pixels;
        let positions = &self.tiling.positions[halo];
        let whole = pixels - pixels % S::LANES;
        // SAFETY: pixels of `channels` planes are read; positions lie inside the scratch image.
        unsafe {
            for q in (0..whole).step_by(S::LANES) {
                S::transpose(
                    |i| {
                        if i < channels {
                            S::load(planes.add(i * pixels + q))
                        } else {
                            S::zero()
                        }
                    },
                    |j, v| S::store(self.scratch.add(positions[q + j] as usize * S::LANES), v),
                );
            }
            for (q, &position) in positions.iter().enumerate().skip(whole) {
                let pixel = self.scratch.add(position as usize * S::LANES);
                S::store(pixel, S::zero());
                for i in 0..channels {
                    *pixel.add(i) = *planes.add(i * pixels + q);
                }
            }
        }
    }
}

/// Tiles of several images back to planes.
pub struct FromTiles<'a> {
    pub tiling: &'a Tiling,
    pub images: usize,
    /// The first channel of the first tile, at point 0.
    pub tiles: *const f32,
    /// From a point to the next, and from a tile to the next.
    pub point: usize,
    pub tile: usize,
    /// Channels to give, from the first plane on.
    pub channels: usize,
    /// First plane of the first image.
    pub planes: *mut f32,
    /// From an image's first plane to the next image's.
    pub image_step: usize,
    /// Added to every pixel of a channel.
    pub bias: Option<&'a [f32]>,
    /// Whether to add to what the planes hold.
    pub accumulate: bool,
    /// `scratch_len` elements.
    pub scratch: *mut f32,
}

impl SimdKernel for FromTiles<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let width = TILE * self.tiling.tiles[1];
        for image in 0..self.images {
            for first in (0..self.channels).step_by(S::LANES) {
                // SAFETY: as in `ToTiles`, with the directions turned round.
                unsafe {
                    for ty in 0..self.tiling.tiles[0] {
                        for tx in 0..self.tiling.tiles[1] {
                            let tile = image * self.tiling.count() + ty * self.tiling.tiles[1] + tx;
                            let from = self.tiles.add(tile * self.tile + first);
                            let to = self.scratch.add((ty * TILE * width + tx * TILE) * S::LANES);
                            both_axes::<S, Output, 6, 4>(
                                |row, col| S::load(from.add((row * 6 + col) * self.point)),
                                |row, col, v| S::store(to.add((row * width + col) * S::LANES), v),
                            );
                        }
                    }
                    let channels = (self.channels - first).min(S::LANES);
                    let planes = self
                        .planes
                        .add(image * self.image_step + first * self.tiling.pixels);
                    self.empty_scratch::<S>(planes, first, channels);
                }
            }
        }
    }
}

impl FromTiles<'_> {
    /// Transposes the scratch image into `channels` planes.
    #[inline(always)]
    unsafe fn empty_scratch<S: Simd>(&self, planes: *mut f32, first: usize, channels: usize) {
        let pixels = self.tiling.pixels;
        let positions = &self.tiling.positions[0];
        let whole = pixels - pixels % S::LANES;
        let bias = |i: usize| self.bias.map_or(0.0, |bias| bias[first + i]);
        // SAFETY: as in `ToTiles::fill_scratch`.
        unsafe {
            for q in (0..whole).step_by(S::LANES) {
                S::transpose(
                    |i| S::load(self.scratch.add(positions[q + i] as usize * S::LANES)),
                    |j, v| {
                        if j < channels {
                            let to = planes.add(j * pixels + q);
                            let v = S::add(v, S::splat(bias(j)));
                            let v = if self.accumulate {
                                S::add(v, S::load(to))
                            } else {
                                v
                            };
                            S::store(to, v);
                        }
                    },
                );
            }
            for (q, &position) in positions.iter().enumerate().skip(whole) {
                let pixel = self.scratch.add(position as usize * S::LANES);
                for j in 0..channels {
                    let to = planes.add(j * pixels + q);
                    let old = if self.accumulate { *to } else { 0.0 };
                    *to = *pixel.add(j) + bias(j) + old;
                }
            }
        }
    }
}
