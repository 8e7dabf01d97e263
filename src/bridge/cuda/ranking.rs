//! Importances and kept channels in a CUDA device's memory, which comes from its pool.

use dfdx::tensor::Cuda;

use crate::bridge::cuda::calls::{download, store_indices, Slice, SliceMut};
use crate::bridge::ranking::Ranking;
use crate::bridge::Buffer;
use crate::error::Result;
use crate::kernels::args::KeptChannels;

/// Two `f32` of memory for each `f64`.
#[derive(Debug)]
pub struct Importance(Buffer<f32, Cuda>);

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
    /// The importances, to read.
    pub fn view(&self) -> Slice<'_, f64> {
        self.0.view().doubles()
    }
}

impl Ranking for Cuda {
    type Importance = Importance;
    type ImportanceMut<'a> = SliceMut<'a, f64>;
    type Kept = Kept;
    type KeptView<'a> = Slice<'a, u32>;

    fn take_importance(&self, count: usize) -> Result<Importance> {
        Buffer::take(self, 2 * count).map(Importance)
    }

    fn importance_mut(importance: &mut Importance) -> SliceMut<'_, f64> {
        importance.0.view_mut().doubles()
    }

    fn importance_to_host(importance: Importance) -> Result<Vec<f64>> {
        download(importance.view())
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
