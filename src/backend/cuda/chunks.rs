//! How the channels of images are cut for the blocks of a kernel (chunks.cuh).

use crate::bridge::cuda::calls::{launch, Arg, Grid, Slice, SliceMut, Source, CHANNELS};
use crate::bridge::cuda::{with_counters, with_workspace, Importance};
use crate::error::Result;
use crate::kernels::args::ImageDims;

/// Threads of a block that takes a chunk, at most.
const THREADS: usize = 256;
/// Elements of a chunk, at least.
const CHUNK: usize = 4096;
/// Chunks of a channel, at most: a block adds up what those of a channel sum.
const MOST_CHUNKS: usize = 64;

/// The sizes that the kernels go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    pub(super) channels: usize,
    pub(super) plane: usize,
    /// Elements of a channel.
    pub(super) count: usize,
    /// How many of them a block takes.
    pub(super) chunk: usize,
}

impl Chunks {
    pub(super) fn of(dims: ImageDims) -> Self {
        let count = dims.batch * dims.plane;
        Self {
            channels: dims.channels,
            plane: dims.plane,
            count,
            // Four elements are read as one, where planes have a multiple of them.
            chunk: count.div_ceil(MOST_CHUNKS).max(CHUNK).next_multiple_of(4),
        }
    }

    /// A channel's.
    pub(super) fn of_channel(&self) -> usize {
        self.count.div_ceil(self.chunk)
    }

    /// All channels'.
    pub(super) fn total(&self) -> usize {
        self.channels * self.of_channel()
    }

    /// `channels, plane, count, chunk`, as kernels take them.
    pub(super) fn args(&self) -> [Arg; 4] {
        [self.channels, self.plane, self.count, self.chunk].map(Arg::from)
    }

    /// Launches a kernel with a block a chunk.
    pub(super) fn launch(
        &self,
        source: &'static Source,
        name: &'static str,
        device: i32,
        args: &[Arg],
    ) -> Result<()> {
        // Four elements or more for each, whole warps.
        let threads = self.count.min(self.chunk).div_ceil(4);
        let threads = threads.next_multiple_of(32).clamp(32, THREADS) as u32;
        let grid = Grid::blocks(self.total(), threads);
        launch(source, name, device, grid, args)
    }

    /// Room for a sum of each chunk.
    pub(super) fn importance<'a>(&self, of: &'a mut Importance) -> Result<SliceMut<'a, f64>> {
        of.room([self.of_channel(), self.count])
    }

    /// To `sums`, for each chunk of `dy` the sum of its elements, or of their magnitudes.
    pub(super) fn sums(
        &self,
        dy: Slice<f32>,
        magnitudes: bool,
        sums: &SliceMut<f64>,
    ) -> Result<()> {
        let memory = [dy.into(), sums.into()];
        let args = [&memory[..], &self.args(), &[magnitudes.into()]].concat();
        self.launch(&CHANNELS, "channel_sums", dy.device(), &args)
    }

    /// db += the sums of dY's channels, in the elements `kept`, if not in all.
    pub(super) fn bias(&self, dy: Slice<f32>, kept: Option<Slice<u32>>, db: Arg) -> Result<()> {
        let slots = kept.map_or(self.channels, |kept| kept.len());
        let device = dy.device();
        with_counters(device, self.channels, |done| {
            // An f64 a chunk.
            with_workspace(device, 2 * self.total(), |workspace| {
                let partial = workspace.doubles();
                let memory = [
                    dy.into(),
                    (&partial).into(),
                    (&done).into(),
                    kept.into(),
                    db,
                ];
                let args = [&memory[..], &self.args(), &[slots.into()]].concat();
                self.launch(&CHANNELS, "channel_bias", device, &args)
            })
        })
    }
}
