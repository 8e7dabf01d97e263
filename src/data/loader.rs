//! Which images an epoch's batches have, in an order that (seed, epoch) decides.

use std::sync::Arc;

use super::augment::Augmentation;
use super::batches::Batches;
use super::dataset::{permutation, DamagedPicture, ImageDataset, ImageShape};
use super::normalization::Normalization;
use super::plan::{Damaged, Plan};
use crate::error::{Error, Result};

/// Makes the batches of each epoch from a data set.
///
/// Unless told otherwise: in the data set's order, pixels scaled to 0..=1, images in their own
/// size, and a last batch with what remains.
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::data::{BatchLoader, ImageDataset, ImageShape, Normalization};
///
/// let data = ImageDataset::new(vec![9; 5 * 28 * 28], vec![0, 1, 2, 1, 0], ImageShape::new(1, 28, 28), 3)?;
/// let loader = BatchLoader::new(&data, 2)?
///     .normalize(Normalization::of(&data)?)?
///     .fit_to(ImageShape::new(3, 32, 32))?
///     .shuffle(42)
///     .drop_last(true);
/// let dev = Cpu::default();
/// for epoch in 0..2 {
///     for batch in loader.epoch(epoch) {
///         let batch = batch?;
///         let x: Tensor<(usize, Const<3>, Const<32>, Const<32>), f32, _> = batch.image_tensor(&dev)?;
///         let y: Tensor<(usize, Const<3>), f32, _> = batch.one_hot(&dev)?;
///         assert_eq!((x.shape().0, y.shape().0), (2, 2));
///     }
/// }
/// # Ok::<(), ssprop::Error>(())
/// ```
///
/// # Threads and memory
///
/// Batches of a [lazy](ImageDataset::is_lazy) data set are decoded, resized and normalised by
/// [`workers`](Self::workers) in the background, up to [`prefetch`](Self::prefetch) batches ahead of the
/// one that was taken last. So there are at most `prefetch` + 1 batches at a time, of 4 C H W bytes an
/// image (the memory of one that is dropped serves the next), and for each worker one picture: its file's
/// bytes and its pixels, at most 3 bytes each. Nothing else grows with the data set but its list of files.
/// Batches of images in memory are made on the calling thread, unless workers are asked for. The batches are
/// the same for any number of workers and any prefetch. Nothing is made ahead across epochs: the first batch
/// of each is waited for, as long as one worker needs for it (a few milliseconds a picture).
#[derive(Debug, Clone)]
pub struct BatchLoader {
    data: ImageDataset,
    batch_size: usize,
    normalization: Normalization,
    shape: ImageShape,
    seed: Option<u64>,
    drop_last: bool,
    augmentation: (Augmentation, u64),
    workers: Option<usize>,
    prefetch: Option<usize>,
    /// Where skipped pictures are told, if they are skipped.
    damaged: Option<Damaged>,
    /// The rank whose share is made, and their number.
    share: [usize; 2],
}

/// Most workers unless told otherwise.
const WORKERS: usize = 4;

impl BatchLoader {
    /// Batches of `batch_size` images of `data`, whose pixels it shares.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `batch_size` is 0.
    pub fn new(data: &ImageDataset, batch_size: usize) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::parameter("batch_size", batch_size, "at least 1"));
        }
        Ok(Self {
            data: data.clone(),
            batch_size,
            normalization: Normalization::unit(data.shape().channels),
            shape: data.shape(),
            seed: None,
            drop_last: false,
            augmentation: Default::default(),
            workers: None,
            prefetch: None,
            damaged: None,
            share: [0, 1],
        })
    }

    /// The data set, its normalisation, and the size of the batches' images.
    pub(super) fn parts(&self) -> (&ImageDataset, &Normalization, ImageShape) {
        (&self.data, &self.normalization, self.shape)
    }

    /// Normalises the pixels so.
    ///
    /// # Errors
    /// [`Error::Shape`] if it has not as many channels as the data set.
    pub fn normalize(mut self, normalization: Normalization) -> Result<Self> {
        if normalization.channels() != self.data.shape().channels {
            return Err(Error::shape(
                "BatchLoader::normalize",
                "channels",
                self.data.shape().channels,
                normalization.channels(),
            ));
        }
        self.normalization = normalization;
        Ok(self)
    }

    /// Puts each image in the middle of a larger one of `shape`, whose other pixels are 0 (black)
    /// before normalisation, and repeats a single channel as often as `shape` has channels.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images are larger than `shape`, or have other channels and not one.
    pub fn fit_to(mut self, shape: ImageShape) -> Result<Self> {
        shape.image_len()?;
        let from = self.data.shape();
        let channels_fit = from.channels == shape.channels || from.channels == 1;
        if !channels_fit || from.height > shape.height || from.width > shape.width {
            return Err(Error::shape(
                "BatchLoader::fit_to",
                "image",
                format_args!("at most as large as {shape}, with its channels or with 1"),
                format_args!("{from}"),
            ));
        }
        self.shape = shape;
        Ok(self)
    }

    /// Shuffles, with an order that depends on `seed` and the epoch and nothing else.
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Whether to leave out a last batch of fewer than `batch_size` images.
    pub fn drop_last(mut self, drop: bool) -> Self {
        self.drop_last = drop;
        self
    }

    /// Changes each image at random, by `seed`, the epoch and the image's place in the data set.
    ///
    /// # Errors
    /// As [`Augmentation::check`].
    pub fn augment(mut self, augmentation: Augmentation, seed: u64) -> Result<Self> {
        augmentation.check()?;
        self.augmentation = (augmentation, seed);
        Ok(self)
    }

    /// Threads that make batches in the background; with 0 the calling thread makes each as it is asked
    /// for. The default is one a core and at most 4 for a lazy data set, and 0 for one in memory.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Most batches that are made ahead of the last one taken, at least 1. The default is as many as
    /// there are workers, and at least 2. More workers than that have nothing to do.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.prefetch = Some(batches.max(1));
        self
    }

    /// Whether to leave damaged pictures out instead of ending with an error: a batch then has fewer
    /// images. [`damaged`](Self::damaged) tells them. A batch of damaged pictures only is an error
    /// all the same.
    pub fn skip_damaged(mut self, skip: bool) -> Self {
        self.damaged = skip.then(Damaged::default);
        self
    }

    /// The damaged pictures that were left out so far, by this loader and its clones, in the data set's
    /// order. After a whole epoch these are all. (Batches are made ahead: within an epoch there may be
    /// some of later batches.)
    pub fn damaged(&self) -> Vec<DamagedPicture> {
        let Some(damaged) = &self.damaged else {
            return Vec::new();
        };
        damaged.list()
    }

    /// Makes the share of each batch that belongs to rank `rank` of `ranks`: neighbours in the batch's
    /// order, as many for each rank or one more. (A [`Trainer`](crate::train::Trainer) with a communicator
    /// does so itself.) If a batch has fewer images than there are ranks, the last ranks' share is an image
    /// of another's, and [counts](super::Batch::share) for nothing.
    ///
    /// A damaged picture that is [left out](Self::skip_damaged) still counts in the size of the whole batch,
    /// of which no rank knows all.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `rank` is below `ranks`.
    pub fn share_of(mut self, rank: usize, ranks: usize) -> Result<Self> {
        if rank >= ranks {
            return Err(Error::parameter("rank", rank, "below the number of ranks"));
        }
        self.share = [rank, ranks];
        Ok(self)
    }

    /// Batches in an epoch.
    pub fn len(&self) -> usize {
        if self.drop_last {
            self.data.len() / self.batch_size
        } else {
            self.data.len().div_ceil(self.batch_size)
        }
    }

    /// Whether an epoch has no batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of the images in a batch.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The batches of epoch number `epoch`. To resume in its middle, skip: `nth` and `skip` cost
    /// nothing.
    ///
    /// # Errors
    /// An item is that of a picture that cannot be read or decoded: of the first one in the batch, and
    /// so in the epoch, for any number of workers. If the order is shuffled, an epoch's first damaged picture
    /// has it look for the first in the data set's order, which is the one named then: pictures up to
    /// there are decoded for that, on the current rayon pool's threads. An epoch without a batch has one
    /// item, [`DataError::NoBatch`](super::DataError::NoBatch).
    pub fn epoch(&self, epoch: u64) -> Batches {
        let order = match self.seed {
            Some(seed) => permutation(self.data.len(), seed, epoch),
            None => (0..self.data.len() as u32).collect(),
        };
        let (augmentation, seed) = self.augmentation;
        let plan = Plan {
            data: self.data.clone(),
            shuffled: self.seed.is_some(),
            tables: self.normalization.tables(),
            shape: self.shape,
            batch_size: self.batch_size,
            drop_last: self.drop_last,
            order,
            augmentation,
            seeds: (seed, epoch),
            damaged: self.damaged.clone(),
            memory: Default::default(),
            share: self.share,
        };
        let workers = self.workers.unwrap_or_else(|| match self.data.is_lazy() {
            true => std::thread::available_parallelism().map_or(1, |n| n.get().min(WORKERS)),
            false => 0,
        });
        let prefetch = self.prefetch.unwrap_or(workers.max(2));
        Batches::new(Arc::new(plan), self.len(), workers, prefetch)
    }
}
