//! How kernels that go channel by channel share their work out.
//!
//! A task owns a block of neighbouring channels of every image. The blocks follow from the shape
//! alone, and each channel's sums are taken by one task in the images' order, so that results do
//! not depend on the number of threads.

use crate::args::ImageDims;

/// The elements that a task of an elementwise kernel takes.
pub const ELEMENTS: usize = 1 << 14;

/// The elements of a block, about.
const BLOCK: usize = 1 << 17;
/// The elements of an image's run in a block, if there are enough blocks so.
const LONG_RUN: usize = 1 << 12;
/// The elements of an image's run in a block, at least.
const SHORT_RUN: usize = 256;
/// Blocks, at least, where runs are longer than that.
const BLOCKS: usize = 16;

/// The pieces of an optional slice: `count` of them, each `None` if there is none.
pub fn optional<T>(pieces: Option<impl IntoIterator<Item = T>>, count: usize) -> Vec<Option<T>> {
    match pieces {
        Some(pieces) => pieces.into_iter().map(Some).collect(),
        None => (0..count).map(|_| None).collect(),
    }
}

impl ImageDims {
    /// The channels of one block (the last one's may be fewer). Memory gives long runs of an image
    /// faster than short ones, but a block has to stay in the L2 cache from its first pass
    /// to its last, and there should be enough blocks for many threads.
    pub fn block(&self) -> usize {
        let run = (BLOCK / self.batch.max(1)).clamp(SHORT_RUN, LONG_RUN);
        let channels = |run: usize| run / self.plane.max(1);
        channels(run)
            .min(self.channels / BLOCKS)
            .max(channels(SHORT_RUN))
            .clamp(1, self.channels.max(1))
    }

    /// The runs of each block, one an image: `(C_block * H * W)` elements each.
    pub fn blocks<'a, E>(&self, data: &'a [E]) -> Vec<Vec<&'a [E]>> {
        let count = self.channels.div_ceil(self.block());
        let mut blocks: Vec<_> = (0..count).map(|_| Vec::with_capacity(self.batch)).collect();
        for image in data.chunks_exact((self.channels * self.plane).max(1)) {
            for (block, run) in blocks.iter_mut().zip(image.chunks(self.run())) {
                block.push(run);
            }
        }
        blocks
    }

    /// [`ImageDims::blocks`] to write to.
    pub fn blocks_mut<'a, E>(&self, data: &'a mut [E]) -> Vec<Vec<&'a mut [E]>> {
        let count = self.channels.div_ceil(self.block());
        let mut blocks: Vec<_> = (0..count).map(|_| Vec::with_capacity(self.batch)).collect();
        for image in data.chunks_exact_mut((self.channels * self.plane).max(1)) {
            for (block, run) in blocks.iter_mut().zip(image.chunks_mut(self.run())) {
                block.push(run);
            }
        }
        blocks
    }

    fn run(&self) -> usize {
        (self.block() * self.plane).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_every_element_once() {
        for (batch, channels, plane) in [(2, 5, 100), (3, 70, 16), (1, 3, 1024), (2, 1, 1)] {
            let dims = ImageDims {
                batch,
                channels,
                plane,
            };
            let mut data = vec![0; batch * channels * plane];
            for (i, block) in dims.blocks_mut(&mut data).into_iter().enumerate() {
                assert_eq!(block.len(), batch);
                for run in block {
                    for plane in run.chunks_mut(plane).enumerate() {
                        for v in plane.1 {
                            *v += 1 + i * dims.block() + plane.0;
                        }
                    }
                }
            }
            for (i, v) in data.iter().enumerate() {
                assert_eq!(*v, 1 + i / plane % channels);
            }
        }
    }
}
