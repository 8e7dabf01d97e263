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

mod conv;
mod filters;
mod gradient;
mod points;
mod side;
mod tiles;
mod transform;

pub use conv::{conv, Write};
pub use filters::Filters;
pub use gradient::gradient;

/// Tiles of one block of images.
const BLOCK_TILES: usize = 64;
/// Up to this many transformed filters' elements they are kept whole, and images are cut into
/// blocks.
const FEW_FILTERS: usize = 640 * 1024;

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

/// Whether a core's cache holds the transformed filters beside a block of images.
fn fits_by_images(planes: &Planes, tiles: usize) -> bool {
    tiles::POINTS * planes.from * planes.to <= FEW_FILTERS && tiles <= 4 * BLOCK_TILES
}

#[cfg(test)]
mod tests;
