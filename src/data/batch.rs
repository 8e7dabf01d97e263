//! Batches of normalised images, in an order that (seed, epoch) decides, and their tensors.

use std::iter::FusedIterator;

use dfdx::dtypes::Dtype;
use dfdx::shapes::Const;
use dfdx::tensor::Tensor;
use dfdx::tensor_ops::Device;

use super::dataset::{permutation, ImageDataset, ImageShape};
use super::normalization::Normalization;
use crate::bridge::upload;
use crate::error::DataError;
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
///     .normalize(Normalization::of(&data))?
///     .fit_to(ImageShape::new(3, 32, 32))?
///     .shuffle(42)
///     .drop_last(true);
/// let dev = Cpu::default();
/// for epoch in 0..2 {
///     for batch in loader.epoch(epoch) {
///         let x: Tensor<(usize, Const<3>, Const<32>, Const<32>), f32, _> = batch.image_tensor(&dev)?;
///         let y: Tensor<(usize, Const<3>), f32, _> = batch.one_hot(&dev)?;
///         assert_eq!((x.shape().0, y.shape().0), (2, 2));
///     }
/// }
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchLoader<'a> {
    data: &'a ImageDataset,
    batch_size: usize,
    normalization: Normalization,
    shape: ImageShape,
    seed: Option<u64>,
    drop_last: bool,
}

impl<'a> BatchLoader<'a> {
    /// Batches of `batch_size` images of `data`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `batch_size` is 0.
    pub fn new(data: &'a ImageDataset, batch_size: usize) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::parameter("batch_size", batch_size, "at least 1"));
        }
        Ok(Self {
            data,
            batch_size,
            normalization: Normalization::unit(data.shape().channels),
            shape: data.shape(),
            seed: None,
            drop_last: false,
        })
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
    pub fn epoch(&self, epoch: u64) -> Batches<'a> {
        let order = match self.seed {
            Some(seed) => permutation(self.data.len(), seed, epoch),
            None => (0..self.data.len()).collect(),
        };
        Batches {
            data: self.data,
            tables: self.normalization.tables(),
            shape: self.shape,
            batch_size: self.batch_size,
            order,
            next: 0,
            batches: self.len(),
        }
    }
}

/// The batches of one epoch, from [`BatchLoader::epoch`].
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    data: &'a ImageDataset,
    tables: Vec<[f32; 256]>,
    shape: ImageShape,
    batch_size: usize,
    order: Vec<usize>,
    next: usize,
    batches: usize,
}

impl Batches<'_> {
    fn batch(&self, number: usize) -> Batch {
        let start = number * self.batch_size;
        let end = start.saturating_add(self.batch_size).min(self.order.len());
        let indices = &self.order[start..end];
        let (from, to) = (self.data.shape(), self.shape);
        let (top, left) = ((to.height - from.height) / 2, (to.width - from.width) / 2);
        let plane = from.height * from.width;

        let mut images = Vec::with_capacity(indices.len() * to.channels * to.height * to.width);
        let (mut labels, mut attributes) = (Vec::new(), Vec::new());
        for &index in indices {
            let pixels = &self.data.images()[index * from.channels * plane..];
            for channel in 0..to.channels {
                // A single channel is repeated.
                let channel = if from.channels == 1 { 0 } else { channel };
                let table = &self.tables[channel];
                let black = table[0];
                let rows = pixels[channel * plane..][..plane].chunks_exact(from.width);
                let pad_rows = |images: &mut Vec<f32>, rows: usize| {
                    images.resize(images.len() + rows * to.width, black)
                };
                pad_rows(&mut images, top);
                for row in rows {
                    images.resize(images.len() + left, black);
                    images.extend(row.iter().map(|&p| table[usize::from(p)]));
                    images.resize(images.len() + to.width - from.width - left, black);
                }
                pad_rows(&mut images, to.height - from.height - top);
            }
            labels.extend(self.data.label(index));
            attributes.extend_from_slice(self.data.image_attributes(index).unwrap_or_default());
        }
        Batch {
            images,
            labels,
            attributes,
            multi_label: self.data.is_multi_label(),
            indices: indices.to_vec(),
            shape: to,
        }
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        self.nth(0)
    }

    fn nth(&mut self, n: usize) -> Option<Batch> {
        let number = self.next.saturating_add(n).min(self.batches);
        self.next = (number + 1).min(self.batches);
        (number < self.batches).then(|| self.batch(number))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batches - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches<'_> {}
impl FusedIterator for Batches<'_> {}

/// Normalised images and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    images: Vec<f32>,
    labels: Vec<usize>,
    attributes: Vec<bool>,
    multi_label: bool,
    indices: Vec<usize>,
    shape: ImageShape,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Whether each image has a number of attributes instead of one class.
    pub fn is_multi_label(&self) -> bool {
        self.multi_label
    }

    /// The normalised pixels, (N, C, H, W).
    pub fn images(&self) -> &[f32] {
        &self.images
    }

    /// The labels, (N). Empty if the batch is multi-label.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The attributes, (N, classes). Empty unless the batch is multi-label.
    pub fn attributes(&self) -> &[bool] {
        &self.attributes
    }

    /// The images' places in the data set, (N).
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The size of every image.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The images as a tensor of shape (N, C, H, W).
    ///
    /// # Errors
    /// [`Error::Shape`] if the images are not `C`x`H`x`W`; [`Error::Parameter`] if a value does
    /// not fit into `E`; [`Error::Device`] if memory runs out.
    #[allow(clippy::type_complexity)] // The shape is the point.
    pub fn image_tensor<const C: usize, const H: usize, const W: usize, E: Dtype, D: Device<E>>(
        &self,
        dev: &D,
    ) -> Result<Tensor<(usize, Const<C>, Const<H>, Const<W>), E, D>> {
        let wanted = ImageShape::new(C, H, W);
        if self.shape != wanted {
            return Err(Error::shape(
                "Batch::image_tensor",
                "images",
                format_args!("{wanted}"),
                format_args!("{}", self.shape),
            ));
        }
        let shape = (self.len(), Const, Const, Const);
        // As they are, if the tensor's elements are f32 too.
        if let Some(values) = (&self.images as &dyn std::any::Any).downcast_ref::<Vec<E>>() {
            return upload(dev, shape, values);
        }
        let convert = |&v: &f32| {
            E::from_f32(v).ok_or_else(|| {
                Error::parameter("pixel", v, "in the range of the tensor's element type")
            })
        };
        let values: Vec<E> = self.images.iter().map(convert).collect::<Result<_>>()?;
        upload(dev, shape, &values)
    }

    /// The loss's targets, (N, CLASSES): [`one_hot`](Self::one_hot) labels, or of a multi-label
    /// batch the attributes, 1 for one that the image has and 0 for another (for dfdx's
    /// `binary_cross_entropy_with_logits_loss`).
    ///
    /// # Errors
    /// As [`one_hot`](Self::one_hot); [`Error::Shape`] if there are not `CLASSES` attributes.
    pub fn targets<const CLASSES: usize, E: Dtype, D: Device<E>>(
        &self,
        dev: &D,
    ) -> Result<Tensor<(usize, Const<CLASSES>), E, D>> {
        if !self.multi_label {
            return self.one_hot(dev);
        }
        if self.attributes.len() != self.len() * CLASSES {
            return Err(Error::shape(
                "Batch::targets",
                "attributes of an image",
                CLASSES,
                self.attributes.len() / self.len().max(1),
            ));
        }
        let value = |&has: &bool| if has { E::ONE } else { E::default() };
        let values: Vec<E> = self.attributes.iter().map(value).collect();
        upload(dev, (self.len(), Const), &values)
    }

    /// The labels as a tensor of shape (N, CLASSES), 1 at the label and 0 elsewhere: the targets
    /// of dfdx's `cross_entropy_with_logits_loss`. Zeros if the batch is multi-label.
    ///
    /// # Errors
    /// [`DataError::ImageLabel`] if a label is not below `CLASSES`; [`Error::Device`] if memory
    /// runs out.
    pub fn one_hot<const CLASSES: usize, E: Dtype, D: Device<E>>(
        &self,
        dev: &D,
    ) -> Result<Tensor<(usize, Const<CLASSES>), E, D>> {
        let mut values = vec![E::default(); self.len() * CLASSES];
        for (index, &label) in self.labels.iter().enumerate() {
            if label >= CLASSES {
                return Err(DataError::ImageLabel {
                    index,
                    label,
                    classes: CLASSES,
                }
                .into());
            }
            values[index * CLASSES + label] = E::ONE;
        }
        upload(dev, (self.len(), Const), &values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::*;

    /// `n` images of 1x2x3 with the pixels 6i.., of class i % 3.
    fn numbered(n: usize) -> ImageDataset {
        let images = (0..6 * n).map(|i| i as u8).collect();
        let labels = (0..n).map(|i| (i % 3) as u16).collect();
        ImageDataset::new(images, labels, ImageShape::new(1, 2, 3), 3).unwrap()
    }

    fn order(batches: Batches) -> Vec<usize> {
        batches.flat_map(|b| b.indices().to_vec()).collect()
    }

    #[test]
    fn each_image_comes_once_an_epoch_with_its_pixels_and_label() {
        let data = numbered(40);
        let loader = BatchLoader::new(&data, 7).unwrap().shuffle(3);
        assert_eq!((loader.len(), loader.epoch(0).len()), (6, 6));
        let mut seen = Vec::new();
        for batch in loader.epoch(5) {
            for (k, &i) in batch.indices().iter().enumerate() {
                let pixels: Vec<f32> = data
                    .image(i)
                    .unwrap()
                    .iter()
                    .map(|&p| p as f32 / 255.0)
                    .collect();
                assert_eq!(&batch.images()[6 * k..6 * k + 6], pixels);
                assert_eq!(Some(batch.labels()[k]), data.label(i));
            }
            seen.extend(batch.indices().to_vec());
        }
        assert_ne!(seen, (0..40).collect::<Vec<_>>(), "shuffled");
        seen.sort_unstable();
        assert_eq!(seen, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn seed_and_epoch_decide_the_order() {
        let data = numbered(40);
        let with = |seed| BatchLoader::new(&data, 8).unwrap().shuffle(seed);
        assert_eq!(order(with(1).epoch(2)), order(with(1).epoch(2)));
        assert_ne!(order(with(1).epoch(2)), order(with(1).epoch(3)));
        assert_ne!(order(with(1).epoch(2)), order(with(2).epoch(2)));
        assert_ne!(order(with(1).epoch(2)), order(with(2).epoch(1)));
        // The batch size does not change it.
        let other = BatchLoader::new(&data, 3).unwrap().shuffle(1);
        assert_eq!(order(with(1).epoch(2)), order(other.epoch(2)));
        // Pinned: a change of the generator would change every training run.
        let few = numbered(8);
        let pinned = BatchLoader::new(&few, 8).unwrap().shuffle(1).epoch(0);
        assert_eq!(order(pinned), [6, 4, 2, 3, 5, 7, 1, 0]);
        let plain = BatchLoader::new(&data, 8).unwrap();
        assert_eq!(order(plain.epoch(4)), (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn last_batch_is_kept_or_dropped() {
        let data = numbered(10);
        let sizes = |drop, size| -> Vec<usize> {
            let loader = BatchLoader::new(&data, size).unwrap().drop_last(drop);
            let sizes: Vec<usize> = loader.epoch(0).map(|b| b.len()).collect();
            assert_eq!(sizes.len(), loader.len());
            sizes
        };
        assert_eq!(sizes(false, 4), [4, 4, 2]);
        assert_eq!(sizes(true, 4), [4, 4]);
        assert_eq!(sizes(false, 5), [5, 5]);
        assert!(sizes(true, 11).is_empty());
        assert_eq!(sizes(false, usize::MAX), [10]);
        assert!(BatchLoader::new(&data, 0).is_err());
    }

    #[test]
    fn skipping_gives_the_same_batches() {
        let data = numbered(10);
        let loader = BatchLoader::new(&data, 3).unwrap().shuffle(1);
        let all: Vec<Batch> = loader.epoch(0).collect();
        let skipped: Vec<Batch> = loader.epoch(0).skip(2).collect();
        assert_eq!(skipped, all[2..]);
        let mut batches = loader.epoch(0);
        assert_eq!(batches.nth(3).as_ref(), Some(&all[3]));
        assert_eq!((batches.len(), batches.next()), (0, None));
        assert_eq!(loader.epoch(0).nth(usize::MAX), None);
    }

    #[test]
    fn padding_is_black_and_a_grey_channel_is_repeated() {
        let data = ImageDataset::new(vec![255, 51], vec![0], ImageShape::new(1, 1, 2), 1).unwrap();
        let norm = Normalization::new(vec![0.2], vec![0.4]).unwrap();
        let loader = BatchLoader::new(&data, 1)
            .unwrap()
            .normalize(norm)
            .unwrap()
            .fit_to(ImageShape::new(2, 3, 5))
            .unwrap();
        let batch = loader.epoch(0).next().unwrap();
        let dev = Cpu::default();
        let x: Tensor<(usize, Const<2>, Const<3>, Const<5>), f64, _> =
            batch.image_tensor(&dev).unwrap();
        assert_eq!(x.shape().0, 1);
        let x = x.as_vec();
        let black = [-0.5; 5];
        for channel in x.chunks(15) {
            assert_eq!(channel[..5], black);
            for (v, want) in channel[5..10].iter().zip([-0.5, 2.0, 0.0, -0.5, -0.5]) {
                assert!((v - want).abs() < 1e-6, "{v} {want}");
            }
            assert_eq!(channel[10..], black);
        }
    }

    #[test]
    fn attributes_come_with_their_images_as_targets() {
        let attributes: Vec<bool> = (0..5).flat_map(|i| [i % 2 == 0, i == 3]).collect();
        let shape = ImageShape::new(1, 1, 1);
        let data = ImageDataset::multi_label((0..5).collect(), attributes, shape, 2).unwrap();
        let loader = BatchLoader::new(&data, 2).unwrap().shuffle(4);
        let dev = Cpu::default();
        let mut seen = 0;
        for batch in loader.epoch(0) {
            assert!(batch.is_multi_label() && batch.labels().is_empty());
            let wanted = batch.indices().iter();
            let wanted = wanted.flat_map(|&i| [i % 2 == 0, i == 3].map(|has| has as u8 as f32));
            let targets = batch.targets::<2, f32, _>(&dev).unwrap();
            assert_eq!(targets.as_vec(), wanted.collect::<Vec<f32>>());
            let e = batch.targets::<3, f32, _>(&dev).unwrap_err().to_string();
            assert!(e.contains("expected 3, found 2"), "{e}");
            seen += batch.len();
        }
        assert_eq!(seen, 5);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let data = ImageDataset::new(vec![0; 12], vec![0], ImageShape::new(3, 2, 2), 1).unwrap();
        let loader = BatchLoader::new(&data, 1).unwrap();
        for (c, h, w) in [(3, 1, 2), (3, 2, 1), (1, 2, 2), (6, 2, 2), (3, 0, 0)] {
            let fitted = loader.clone().fit_to(ImageShape::new(c, h, w));
            assert!(fitted.is_err(), "{c} {h} {w}");
        }
        let m = loader.normalize(Normalization::unit(1)).unwrap_err();
        assert!(m.to_string().contains("expected 3, found 1"), "{m}");
    }

    #[test]
    fn tensors_of_another_shape_are_refused() {
        let data = numbered(4);
        let batch = BatchLoader::new(&data, 3).unwrap().epoch(0).next().unwrap();
        let dev = Cpu::default();
        let m = batch.image_tensor::<1, 3, 2, f32, _>(&dev).unwrap_err();
        assert!(m.to_string().contains("expected 1x3x2, found 1x2x3"), "{m}");
        let x = batch.image_tensor::<1, 2, 3, f32, _>(&dev).unwrap();
        assert_eq!(x.as_vec(), batch.images());

        let y = batch.one_hot::<4, f32, _>(&dev).unwrap();
        let want = [1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0.];
        assert_eq!(y.as_vec(), want);
        let m = batch.one_hot::<2, f32, _>(&dev).unwrap_err();
        assert!(m.to_string().contains("label 2 of image 2"), "{m}");
        assert!(batch.one_hot::<0, f32, _>(&dev).is_err());
    }
}
