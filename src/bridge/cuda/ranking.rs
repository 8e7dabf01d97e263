//! Importances and kept channels in a CUDA device's memory, which comes from its pool.

use dfdx::tensor::Cuda;

use crate::bridge::cuda::calls::{
    download, launch, store_indices, Arg, Grid, Slice, SliceMut, CHANNELS,
};
use crate::bridge::ranking::Ranking;
use crate::bridge::Buffer;
use crate::error::Result;
use crate::kernels::args::KeptChannels;

/// A number for each channel; or a sum for each of its chunks, which whoever reads them adds up.
#[derive(Debug)]
pub struct Importance {
    dev: Cuda,
    channels: usize,
    /// Two `f32` of memory for each `f64`; none before the first is to be written.
    sums: Option<Buffer<f32, Cuda>>,
    /// Of a channel.
    chunks: usize,
    /// Of a channel: what its sum is divided by.
    elements: usize,
}

/// One `f32` of memory for each index, an `unsigned`.
#[derive(Debug)]
pub struct Kept {
    indices: Buffer<f32, Cuda>,
    all: usize,
    on_host: Option<KeptChannels>,
}

impl Kept {
    /// `count` indices of `all` channels, which `choose` writes.
    ///
    /// # Errors
    /// Those of `choose`; [`Error::Device`](crate::Error::Device) if memory runs out.
    pub fn chosen(
        dev: &Cuda,
        [count, all]: [usize; 2],
        choose: impl FnOnce(&SliceMut<'_, u32>) -> Result<()>,
    ) -> Result<Self> {
        let mut indices = Buffer::take(dev, count)?;
        choose(&indices.view_mut().words())?;
        Ok(Self {
            indices,
            all,
            on_host: None,
        })
    }
}

impl Importance {
    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Room for the sums of a channel's `chunks`, of `elements` in all; or for what is no sum, of one in one.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    pub fn room(&mut self, [chunks, elements]: [usize; 2]) -> Result<SliceMut<'_, f64>> {
        let sums = match self.sums.take() {
            Some(sums) if self.chunks == chunks => sums,
            _ => Buffer::take(&self.dev, 2 * self.channels * chunks)?,
        };
        (self.chunks, self.elements) = (chunks, elements);
        Ok(self.sums.insert(sums).view_mut().doubles())
    }

    /// The sums, how many a channel has, and of how many elements; `None` before they are written.
    pub fn sums(&self) -> Option<(Slice<'_, f64>, [usize; 2])> {
        let sums = self.sums.as_ref()?.view().doubles();
        Some((sums, [self.chunks, self.elements]))
    }

    /// One number for each channel.
    ///
    /// # Errors
    /// Those of [`room`](Self::room), and of the device.
    pub fn means(self) -> Result<Self> {
        let Some((sums, [chunks, elements])) = self.sums().filter(|(_, of)| *of != [1, 1]) else {
            return Ok(self);
        };
        let mut means = self.dev.take_importance(self.channels)?;
        let to = means.room([1, 1])?;
        let sizes = [self.channels, elements, chunks].map(Arg::Size);
        let args = [&[sums.into(), (&to).into()][..], &sizes].concat();
        let grid = Grid::warps(self.channels);
        launch(&CHANNELS, "channel_importance", sums.device(), grid, &args)?;
        Ok(means)
    }
}

impl Ranking for Cuda {
    type Importance = Importance;
    type ImportanceMut<'a> = &'a mut Importance;
    type Kept = Kept;
    type KeptView<'a> = Slice<'a, u32>;

    fn take_importance(&self, count: usize) -> Result<Importance> {
        Ok(Importance {
            dev: self.clone(),
            channels: count,
            sums: None,
            chunks: 0,
            elements: 0,
        })
    }

    fn importance_mut(importance: &mut Importance) -> &mut Importance {
        importance
    }

    fn importance_to_host(importance: Importance) -> Result<Vec<f64>> {
        let means = importance.means()?;
        let (means, _) = means.sums().unzip();
        means.map_or(Ok(Vec::new()), download)
    }

    fn keep(&self, indices: Vec<usize>, all: usize) -> Result<Kept> {
        let on_host = KeptChannels::new(indices, all)?;
        let kept = Kept::chosen(self, [on_host.len(), all], |to| store_indices(&on_host, to))?;
        Ok(Kept {
            on_host: Some(on_host),
            ..kept
        })
    }

    fn kept(kept: &Kept) -> Slice<'_, u32> {
        kept.indices.view().words()
    }

    fn kept_on_host(kept: &Kept) -> Option<&[usize]> {
        kept.on_host.as_deref()
    }

    fn kept_of(kept: &Kept) -> [usize; 2] {
        [Self::kept(kept).len(), kept.all]
    }
}
