//! Convolutions of 3x3 windows with stride and padding 1, in TF32, by kernels of our own (conv3x3.cu). Each function
//! says whether they suit the shape; if not, nothing is done.

use super::{add_parts, Gradient};
#[cfg(feature = "cudnn")]
use crate::bridge::cuda::calls::uses_cudnn;
use crate::bridge::cuda::calls::{has_tf32, launch, tf32, Arg, Grid, Slice, SliceMut, CONV3X3};
use crate::bridge::cuda::with_workspace;
use crate::error::Result;
use crate::kernels::args::conv2d::Conv2DShape;
use crate::kernels::args::Fill;

/// Threads of a block.
const THREADS: u32 = 128;
/// Channels of a tile.
const CHANNELS: usize = 16;
/// Outputs that a block makes of a tile.
const OUTPUTS: usize = 32;
/// Elements of a channel of a tile with its frame, and of one without, at most.
const FRAMED: usize = 344;
const PLAIN: usize = 288;
/// Blocks that fill a large GPU.
const BLOCKS: usize = 1280;
/// The most channels that are summed over for which these kernels are faster than cuDNN's, on an H100 (docs/cuda.md):
/// those of x or of dY, and for dW the rows of dW, or, beside few inputs, any number.
const FASTER_INPUTS: usize = 128;
const FASTER_ROWS: usize = 56;
const FEW_INPUTS: usize = 16;

/// How images are cut into tiles, as the kernels have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tiles {
    batch: usize,
    height: usize,
    width: usize,
    /// Of an image in a tile.
    rows: usize,
    /// In a tile: one, unless `rows` is all of its height.
    images: usize,
}

impl Tiles {
    /// None for rows that are too long.
    fn new(batch: usize, [height, width]: [usize; 2]) -> Option<Self> {
        let pitch = width + 2;
        let rows = height.min((FRAMED / pitch).saturating_sub(2));
        let fits = |rows: usize, images: usize| {
            images * (rows + 2) * pitch <= FRAMED
                && images * (rows * pitch).next_multiple_of(8) <= PLAIN
        };
        let rows = (1..=rows).rev().find(|&rows| fits(rows, 1))?;
        let images = match rows == height {
            true => (1..=batch.max(1))
                .take_while(|&images| fits(rows, images))
                .last()?,
            false => 1,
        };
        Some(Self {
            batch,
            height,
            width,
            rows,
            images,
        })
    }

    fn count(&self) -> usize {
        self.batch.div_ceil(self.images) * self.height.div_ceil(self.rows)
    }

    fn args(&self) -> [Arg; 7] {
        let eights = (self.rows * (self.width + 2)).div_ceil(8);
        let lanes = self.width.next_power_of_two().min(32);
        [
            self.batch,
            self.height,
            self.width,
            self.rows,
            self.images,
            eights,
            lanes,
        ]
        .map(Arg::Size)
    }
}

/// The tiles of a convolution that the kernels know, and are faster at, or have to do.
fn tiles_of(device: i32, shape: &Conv2DShape, faster: bool) -> Result<Option<Tiles>> {
    let op = shape.op();
    let window = [op.kernel, op.stride, op.padding, op.dilation, op.groups];
    let known = window == [3, 1, 1, 1, 1] && shape.batch() > 0 && tf32().in_convolutions();
    #[cfg(feature = "cudnn")]
    let faster = faster || !uses_cudnn();
    // Without cuDNN the other way is always slower.
    if !known || !(faster || cfg!(not(feature = "cudnn"))) {
        return Ok(None);
    }
    match has_tf32(device)? {
        true => Ok(Tiles::new(shape.batch(), shape.input())),
        false => Ok(None),
    }
}

/// y (B, outputs, H, W) (+)= conv(x (B, inputs, H, W), filters) + bias, whose filters are made of `weight`: of its rows
/// `kept` turned by half, if `backward`.
#[allow(clippy::too_many_arguments)]
fn images(
    tiles: &Tiles,
    [inputs, outputs]: [usize; 2],
    x: Slice<f32>,
    weight: Slice<f32>,
    kept: Option<Slice<u32>>,
    backward: bool,
    bias: Option<Slice<f32>>,
    y: &SliceMut<f32>,
    fill: Fill,
) -> Result<()> {
    let device = y.device();
    let outputs_rounded = outputs.next_multiple_of(OUTPUTS);
    let filters = inputs.next_multiple_of(CHANNELS) * 9 * outputs_rounded;
    // Of channels of zeros, behind the kept ones, there are no rows.
    let rows = kept.map_or(inputs, |kept| kept.len());
    with_workspace(device, filters, |memory| {
        let mut args = vec![weight.into(), kept.into(), (&memory).into()];
        args.extend([filters, rows, outputs, outputs_rounded].map(Arg::Size));
        args.push(backward.into());
        let grid = Grid::elements(filters);
        launch(&CONV3X3, "conv3x3_filters", device, grid, &args)?;

        let memory = [x.into(), memory.shared().into(), bias.into(), y.into()];
        let sizes = [inputs, outputs, outputs_rounded].map(Arg::Size);
        let args = [&memory[..], &sizes, &[fill.into()], &tiles.args()].concat();
        let grid = Grid::blocks(tiles.count() * (outputs_rounded / OUTPUTS), THREADS);
        launch(&CONV3X3, "conv3x3_images", device, grid, &args)
    })
}

// y (B, C_out, H, W) = conv(x, w) + bias
pub(super) fn forward(
    shape: &Conv2DShape,
    x: Slice<f32>,
    weight: Slice<f32>,
    bias: Option<Slice<f32>>,
    y: &SliceMut<f32>,
) -> Result<bool> {
    let Some(tiles) = tiles_of(y.device(), shape, shape.c_in() <= FASTER_INPUTS)? else {
        return Ok(false);
    };
    let channels = [shape.c_in(), shape.c_out()];
    let overwrite = Fill::Overwrite;
    images(&tiles, channels, x, weight, None, false, bias, y, overwrite)?;
    Ok(true)
}

// dX (B, C_in, H, W) (+)= conv(dY (B, kept, H, W), w's rows, turned)
pub(super) fn backward_input(
    shape: &Conv2DShape,
    weight: Slice<f32>,
    dy: Gradient,
    dx: &SliceMut<f32>,
    fill: Fill,
) -> Result<bool> {
    let Some(tiles) = tiles_of(dx.device(), shape, dy.channels <= FASTER_INPUTS)? else {
        return Ok(false);
    };
    let channels = [dy.channels, shape.c_in()];
    images(
        &tiles, channels, dy.dy, weight, dy.kept, true, None, dx, fill,
    )?;
    Ok(true)
}

// dW (kept, C_in 9) += dY (kept, pixels) x the shifted pixels of x (pixels, C_in 9), by parts of the pixels
pub(super) fn backward_weight(
    shape: &Conv2DShape,
    x: Slice<f32>,
    dy: Gradient,
    dw: &SliceMut<f32>,
) -> Result<bool> {
    let device = dw.device();
    let faster = dy.channels <= FASTER_ROWS || shape.c_in() <= FEW_INPUTS;
    let Some(tiles) = tiles_of(device, shape, faster)? else {
        return Ok(false);
    };
    let slot_tiles = dy.channels.div_ceil(CHANNELS);
    let blocks = slot_tiles * shape.c_in().div_ceil(CHANNELS);
    let splits = (BLOCKS / blocks).clamp(1, tiles.count());
    let stride = slot_tiles * CHANNELS * shape.filter_len();
    with_workspace(device, splits * stride, |partial| {
        let memory = [x.into(), dy.dy.into(), (&partial).into()];
        let sizes = [shape.c_in(), dy.channels, splits].map(Arg::Size);
        let args = [&memory[..], &sizes, &tiles.args()].concat();
        let grid = Grid::blocks(blocks * splits, THREADS);
        launch(&CONV3X3, "conv3x3_weight", device, grid, &args)?;

        add_parts(
            partial.shared(),
            [splits, stride],
            dy,
            shape.filter_len(),
            dw,
        )
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fill_what_a_block_has() {
        let of = |batch, size| {
            let tiles = Tiles::new(batch, size)?;
            Some([tiles.rows, tiles.images, tiles.count()])
        };
        assert_eq!(of(128, [32, 32]), Some([8, 1, 512]));
        assert_eq!(of(128, [28, 28]), Some([9, 1, 512]));
        assert_eq!(of(128, [16, 16]), Some([16, 1, 128]));
        assert_eq!(of(128, [8, 8]), Some([8, 3, 43]));
        assert_eq!(of(2, [4, 4]), Some([4, 2, 1]));
        assert_eq!(of(5, [1, 112]), Some([1, 1, 5]));
        assert_eq!(of(5, [1, 113]), None);
    }
}
