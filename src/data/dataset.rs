//! Labelled images, in memory or in files.

use std::borrow::Cow;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rayon::prelude::*;

use super::fit::Fit;
use super::picture::{decode, Picture, Pictures, Region, Resizer};
use crate::error::{DataError, FileName};
use crate::error::{Error, Result};

/// The size of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    /// Channels: 1 for grey, 3 for red, green and blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// The shape (channels, height, width).
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
        }
    }

    /// Values in an image, channels * height * width; `None` if they cannot be counted.
    pub const fn checked_len(&self) -> Option<usize> {
        match self.channels.checked_mul(self.height) {
            Some(rows) => rows.checked_mul(self.width),
            None => None,
        }
    }

    /// [`checked_len`](Self::checked_len), refusing sizes of 0.
    pub(crate) fn image_len(&self) -> Result<usize> {
        match self.checked_len() {
            Some(len) if len > 0 => Ok(len),
            _ => Err(Error::parameter(
                "image shape",
                self,
                "at least 1 in each size, and small enough to be counted",
            )),
        }
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// Labelled images of one size: 8-bit pixels in row-major (C, H, W) order.
///
/// The pixels lie in memory, or are decoded and resized from picture files as they are asked for
/// ([`is_lazy`](Self::is_lazy)). A clone, a [`subset`](Self::subset) or a [`split`](Self::split) shares
/// them: it has labels and an order of its own (6 bytes an image), and no pixels.
///
/// ```
/// use ssprop::data::{ImageDataset, ImageShape};
///
/// let shape = ImageShape::new(1, 2, 2);
/// let data = ImageDataset::new(vec![0, 1, 2, 3, 10, 11, 12, 13], vec![1, 0], shape, 2)?;
/// assert_eq!(data.len(), 2);
/// assert_eq!(*data.image(1)?, [10, 11, 12, 13]);
/// assert_eq!(data.label(0), Some(1));
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone)]
pub struct ImageDataset {
    store: Arc<Store>,
    /// Where in the store each image lies; `None` for its first ones in their order.
    order: Option<Arc<[u32]>>,
    labels: Labels,
    count: usize,
    shape: ImageShape,
    image_len: usize,
    classes: usize,
    class_names: Arc<[String]>,
    fit: Fit,
}

/// Where pixels come from.
enum Store {
    /// (N, C, H, W)
    Pixels(Vec<u8>),
    Pictures {
        files: Pictures,
        /// How much of each side of a picture, or of the square in it, is kept.
        share: f64,
    },
}

/// What is known of the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Labels {
    /// The class of each, (N).
    Class(Arc<[u16]>),
    /// Whether each has each attribute, (N, classes).
    Attributes(Arc<[bool]>),
}

/// What a thread that reads images keeps from one to the next.
#[derive(Default)]
pub(super) struct Scratch {
    file: Vec<u8>,
    pub(super) pixels: Vec<u8>,
    pub(super) resizer: Resizer,
}

/// A picture that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPicture {
    /// Its place in the data set.
    pub index: usize,
    /// Its file.
    pub file: FileName,
    /// What is wrong with it.
    pub message: String,
}

impl std::fmt::Display for DamagedPicture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.message)
    }
}

impl ImageDataset {
    /// A data set of `labels.len()` images of `shape`, each of one of `classes` classes.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a size in `shape` is 0 or `classes` is not in 1..=65536;
    /// [`Error::Shape`] if `images` has not `labels.len()` images;
    /// [`DataError::ImageLabel`] if a label is not below `classes`.
    pub fn new(
        images: Vec<u8>,
        labels: Vec<u16>,
        shape: ImageShape,
        classes: usize,
    ) -> Result<Self> {
        let image_len = shape.image_len()?;
        if classes == 0 || classes > usize::from(u16::MAX) + 1 {
            return Err(Error::parameter("classes", classes, "in 1..=65536"));
        }
        if labels.len().checked_mul(image_len) != Some(images.len()) {
            return Err(Error::shape(
                "ImageDataset::new",
                "number of pixel values",
                format_args!("{} images of {shape}", labels.len()),
                images.len(),
            ));
        }
        if let Some(index) = labels.iter().position(|&l| usize::from(l) >= classes) {
            let label = labels[index].into();
            return Err(DataError::ImageLabel {
                index,
                label,
                classes,
            }
            .into());
        }
        let (count, labels) = (labels.len(), Labels::Class(labels.into()));
        Self::of(Store::Pixels(images), count, labels, shape, classes)
    }

    /// A multi-label data set: each image has or has not each of `classes` attributes, which
    /// `attributes` tells image by image, (N, `classes`).
    ///
    /// ```
    /// use ssprop::data::{ImageDataset, ImageShape};
    ///
    /// let attributes = vec![true, false, false, true, true, false];
    /// let data = ImageDataset::multi_label(vec![0; 8], attributes, ImageShape::new(1, 2, 2), 3)?;
    /// assert_eq!((data.len(), data.is_multi_label()), (2, true));
    /// assert_eq!(data.image_attributes(1), Some(&[true, true, false][..]));
    /// assert_eq!(data.class_counts(), [2, 1, 0]);
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] if a size in `shape` is 0 or `classes` is 0; [`Error::Shape`] if
    /// `attributes` or `images` are not those of a whole number of images, the same for both.
    pub fn multi_label(
        images: Vec<u8>,
        attributes: Vec<bool>,
        shape: ImageShape,
        classes: usize,
    ) -> Result<Self> {
        let image_len = shape.image_len()?;
        if classes == 0 {
            return Err(Error::parameter("classes", classes, "at least 1"));
        }
        let n = images.len() / image_len;
        if images.len() != n * image_len || n.checked_mul(classes) != Some(attributes.len()) {
            return Err(Error::shape(
                "ImageDataset::multi_label",
                "number of pixel values and attributes",
                format_args!("{image_len} and {classes} times the same number of images"),
                (images.len(), attributes.len()),
            ));
        }
        let labels = Labels::Attributes(attributes.into());
        Self::of(Store::Pixels(images), n, labels, shape, classes)
    }

    /// Pictures that are decoded when they are asked for: of each the square in its middle
    /// ([`with_fit`](Self::with_fit) has another choice) with `share` of its sides, resized to `side`.
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`multi_label`](Self::multi_label).
    pub(super) fn of_pictures(
        files: Pictures,
        share: f64,
        side: usize,
        labels: Labels,
        classes: usize,
    ) -> Result<Self> {
        if classes == 0 || classes > usize::from(u16::MAX) + 1 {
            return Err(Error::parameter("classes", classes, "in 1..=65536"));
        }
        let count = files.len();
        let shape = ImageShape::new(3, side, side);
        Self::of(
            Store::Pictures { files, share },
            count,
            labels,
            shape,
            classes,
        )
    }

    fn of(
        store: Store,
        count: usize,
        labels: Labels,
        shape: ImageShape,
        classes: usize,
    ) -> Result<Self> {
        if u32::try_from(count).is_err() {
            return Err(Error::parameter("images", count, "less than 2^32"));
        }
        Ok(Self {
            store: Arc::new(store),
            order: None,
            labels,
            count,
            shape,
            image_len: shape.image_len()?,
            classes,
            class_names: [].into(),
            fit: Fit::default(),
        })
    }

    /// Takes this part of picture files. Images in memory stay as they are.
    pub fn with_fit(self, fit: Fit) -> Self {
        Self { fit, ..self }
    }

    /// Which part of a picture file is taken.
    pub(super) fn fit(&self) -> Fit {
        self.fit
    }

    /// The share of each side of that part which is kept: 1 of images in memory.
    pub(super) fn share(&self) -> f64 {
        match *self.store {
            Store::Pixels(_) => 1.0,
            Store::Pictures { share, .. } => share,
        }
    }

    /// The same images with `height` rows and `width` columns, each side resized by a factor of its own
    /// (triangle filter, no aliasing): of images in memory a copy, of picture files what they are
    /// decoded to.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a size of 0, or images that do not fit into memory.
    pub fn resized(&self, height: usize, width: usize) -> Result<Self> {
        let shape = ImageShape::new(self.shape.channels, height, width);
        let image_len = shape.image_len()?;
        if self.is_lazy() {
            return Ok(Self {
                shape,
                image_len,
                ..self.clone()
            });
        }
        let (from, plane) = (self.shape.height * self.shape.width, height * width);
        let whole = Fit::Squeeze.region(self.shape.width, self.shape.height, 1.0);
        let (all, mut resizer) = (self.pixels()?, Resizer::default());
        let len = self.len().checked_mul(image_len);
        let too_many = || Error::parameter("images", self.len(), "few enough for the memory");
        let mut pixels = Vec::new();
        let len = len.ok_or_else(too_many)?;
        pixels.try_reserve_exact(len).map_err(|_| too_many())?;
        pixels.resize(len, 0);
        for (image, out) in all.chunks_exact(from).zip(pixels.chunks_exact_mut(plane)) {
            resizer.resize::<1>(image, self.shape.width, whole, (height, width), out);
        }
        Ok(Self {
            store: Arc::new(Store::Pixels(pixels)),
            order: None,
            shape,
            image_len,
            ..self.clone()
        })
    }

    /// Names the classes, in the order of their labels.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many names as classes.
    pub fn with_class_names<S: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.len() != self.classes {
            return Err(Error::shape(
                "ImageDataset::with_class_names",
                "number of names",
                self.classes,
                names.len(),
            ));
        }
        self.class_names = names.into();
        Ok(self)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the images are decoded from files when they are asked for.
    pub fn is_lazy(&self) -> bool {
        matches!(*self.store, Store::Pictures { .. })
    }

    /// Whether each image has a number of attributes instead of one class.
    pub fn is_multi_label(&self) -> bool {
        matches!(self.labels, Labels::Attributes(_))
    }

    /// The size of every image.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Number of classes, or of attributes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The names of the classes or attributes by label; empty if they are not known.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// All pixels, (N, C, H, W): a copy, or of picture files what is decoded now.
    ///
    /// # Errors
    /// As [`image`](Self::image); [`Error::Parameter`] if they do not fit into memory.
    pub fn pixels(&self) -> Result<Vec<u8>> {
        let too_many = || Error::parameter("images", self.len(), "few enough for the memory");
        let len = self
            .len()
            .checked_mul(self.image_len)
            .ok_or_else(too_many)?;
        let mut pixels = Vec::new();
        pixels.try_reserve_exact(len).map_err(|_| too_many())?;
        let mut scratch = Scratch::default();
        for index in 0..self.len() {
            let start = pixels.len();
            match self.stored(index) {
                Some(image) => pixels.extend_from_slice(image),
                None => {
                    pixels.resize(start + self.image_len, 0);
                    self.read(index, None, &mut scratch, &mut pixels[start..])?;
                }
            }
        }
        Ok(pixels)
    }

    /// All labels, (N). Empty for a multi-label data set.
    pub fn labels(&self) -> &[u16] {
        match &self.labels {
            Labels::Class(labels) => labels,
            Labels::Attributes(_) => &[],
        }
    }

    /// All attributes, (N, classes). Empty unless the data set is multi-label.
    pub fn attributes(&self) -> &[bool] {
        match &self.labels {
            Labels::Class(_) => &[],
            Labels::Attributes(attributes) => attributes,
        }
    }

    /// The pixels of one image, (C, H, W).
    ///
    /// # Errors
    /// [`Error::Parameter`] if `index` is not below [`len`](Self::len); of a picture file
    /// [`DataError::Picture`] if it is damaged and [`DataError::Io`] if it cannot be read.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        if let Some(image) = self.stored(index) {
            return Ok(image.into());
        }
        let mut image = vec![0; self.image_len];
        self.read(index, None, &mut Scratch::default(), &mut image)?;
        Ok(image.into())
    }

    /// The file that an image is decoded from. `None` if it lies in memory, or is not there.
    pub fn file(&self, index: usize) -> Option<FileName> {
        match &*self.store {
            Store::Pixels(_) => None,
            Store::Pictures { files, .. } => Some(files.name(self.place(index)?)),
        }
    }

    /// Where an image lies in the store.
    fn place(&self, index: usize) -> Option<usize> {
        match &self.order {
            Some(order) => order.get(index).map(|&place| place as usize),
            None => (index < self.count).then_some(index),
        }
    }

    /// The pixels of an image that lies in memory.
    pub(super) fn stored(&self, index: usize) -> Option<&[u8]> {
        let Store::Pixels(pixels) = &*self.store else {
            return None;
        };
        pixels[self.place(index)? * self.image_len..].get(..self.image_len)
    }

    /// Puts the pixels of an image into `out`, (C, H, W): of the part that `region` chooses by the width
    /// and height of the whole, resized, or without it as [`image`](Self::image) gives it.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub(super) fn read(
        &self,
        index: usize,
        region: Option<&dyn Fn(usize, usize) -> Region>,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<()> {
        let Some(place) = self.place(index) else {
            return Err(Error::parameter(
                "index of an image",
                format_args!("{index} (of {} images)", self.len()),
                "below the number of images",
            ));
        };
        let to = (self.shape.height, self.shape.width);
        let plane = to.0 * to.1;
        match &*self.store {
            Store::Pixels(pixels) => {
                let image = &pixels[place * self.image_len..][..self.image_len];
                let Some(region) = region else {
                    out.copy_from_slice(image);
                    return Ok(());
                };
                let region = region(to.1, to.0);
                let planes = image.chunks_exact(plane).zip(out.chunks_exact_mut(plane));
                for (from, out) in planes {
                    scratch.resizer.resize::<1>(from, to.1, region, to, out);
                }
            }
            Store::Pictures { files, share } => {
                let picture = decoded(files, place, &mut scratch.file, &mut scratch.pixels)?;
                let region = match region {
                    Some(region) => region(picture.width, picture.height),
                    None => self.fit.region(picture.width, picture.height, *share),
                };
                let (pixels, width) = (picture.pixels, picture.width);
                if picture.channels == 1 {
                    let (first, others) = out.split_at_mut(plane);
                    scratch
                        .resizer
                        .resize::<1>(pixels, width, region, to, first);
                    others
                        .chunks_exact_mut(plane)
                        .for_each(|o| o.copy_from_slice(first));
                } else {
                    scratch.resizer.resize::<3>(pixels, width, region, to, out);
                }
            }
        }
        Ok(())
    }

    /// The images that can be decoded, and those that cannot, in the data set's order: reads all, on the
    /// current rayon pool's threads. (A [`BatchLoader`](super::BatchLoader) can
    /// [skip](super::BatchLoader::skip_damaged) damaged pictures as it meets them.)
    ///
    /// # Errors
    /// That of the first image, in the data set's order, which cannot be read for another reason.
    pub fn without_damaged(&self) -> Result<(Self, Vec<DamagedPicture>)> {
        if !self.is_lazy() {
            return Ok((self.clone(), Vec::new()));
        }
        let damage = |scratch: &mut Scratch, index| match self.check(index, scratch) {
            Ok(()) => None,
            Err(Error::Data(DataError::Picture { file, message })) => Some(Ok(DamagedPicture {
                index,
                file,
                message,
            })),
            Err(error) => Some(Err(error)),
        };
        let indices = (0..self.len()).into_par_iter();
        // In the data set's order.
        let found: Vec<_> = indices
            .map_init(Scratch::default, damage)
            .flatten_iter()
            .collect();
        let damaged = found.into_iter().collect::<Result<Vec<_>>>()?;
        let mut bad = damaged.iter().map(|d| d.index).peekable();
        let whole = (0..self.len()).filter(|i| bad.next_if_eq(i).is_none());
        Ok((self.select(&whole.collect::<Vec<_>>()), damaged))
    }

    /// The error of the first of the first `len` images, in the data set's order, that cannot be read: the
    /// same for any number of threads, which are the current rayon pool's.
    pub(super) fn first_error(&self, len: usize) -> Option<Error> {
        let len = len.min(self.len());
        // In parts, so that little is read beyond it.
        let parts = (0..len)
            .step_by(1024)
            .map(|start| start..len.min(start + 1024));
        let check = |scratch: &mut Scratch, index| self.check(index, scratch).err();
        parts
            .map(|part| part.into_par_iter().map_init(Scratch::default, check))
            .find_map(|errors| errors.find_map_first(|error| error))
    }

    /// That an image can be read and decoded.
    fn check(&self, index: usize, scratch: &mut Scratch) -> Result<()> {
        match (&*self.store, self.place(index)) {
            (Store::Pictures { files, .. }, Some(place)) => {
                decoded(files, place, &mut scratch.file, &mut scratch.pixels).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The label of one image. `None` for a multi-label data set.
    pub fn label(&self, index: usize) -> Option<usize> {
        self.labels().get(index).map(|&l| l.into())
    }

    /// The attributes of one image, (classes). `None` unless the data set is multi-label.
    pub fn image_attributes(&self, index: usize) -> Option<&[bool]> {
        self.attributes().chunks_exact(self.classes).nth(index)
    }

    /// Number of images of each class, or with each attribute, by label.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &label in self.labels() {
            counts[usize::from(label)] += 1;
        }
        for attributes in self.attributes().chunks_exact(self.classes) {
            for (count, &has) in counts.iter_mut().zip(attributes) {
                *count += usize::from(has);
            }
        }
        counts
    }

    /// What an image of each class has to count for all classes to count the same: images / (classes of images x
    /// images of the class), and 0 for a class without images. Of no use for multi-label data, which is trained without.
    pub fn balancing_weights(&self) -> Vec<f64> {
        let counts = self.class_counts();
        let (images, present) = (
            self.len() as f64,
            counts.iter().filter(|&&n| n > 0).count() as f64,
        );
        let weight = |&n: &usize| {
            if n > 0 {
                images / (present * n as f64)
            } else {
                0.0
            }
        };
        counts.iter().map(weight).collect()
    }

    /// The images at `indices`, in that order; an index can come more than once.
    ///
    /// # Errors
    /// [`Error::Parameter`] if an index is not below [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        if let Some(&bad) = indices.iter().find(|&&i| i >= self.len()) {
            return Err(Error::parameter(
                "index of an image",
                format_args!("{bad} (of {} images)", self.len()),
                "below the number of images",
            ));
        }
        Ok(self.select(indices))
    }

    /// The first `limit` images, or all if there are fewer.
    pub fn take(&self, limit: usize) -> Self {
        let n = limit.min(self.len());
        let labels = match &self.labels {
            Labels::Class(labels) => Labels::Class(labels[..n].into()),
            Labels::Attributes(all) => Labels::Attributes(all[..n * self.classes].into()),
        };
        Self {
            order: self.order.as_ref().map(|order| order[..n].into()),
            labels,
            count: n,
            ..self.clone()
        }
    }

    /// `limit` images spread evenly over the classes, or all if there are fewer: the first ones of
    /// each class, in their order.
    ///
    /// The classes' counts differ by at most one (the lower labels have more), unless a class has
    /// too few images: the others then make up for it. Of a multi-label data set they are the
    /// [first ones](Self::take).
    pub fn take_balanced(&self, limit: usize) -> Self {
        if self.is_multi_label() {
            return self.take(limit);
        }
        let mut seen = vec![0usize; self.classes];
        let mut order: Vec<(usize, u16, usize)> = Vec::with_capacity(self.len());
        for (index, &label) in self.labels().iter().enumerate() {
            let rank = &mut seen[usize::from(label)];
            order.push((*rank, label, index));
            *rank += 1;
        }
        order.sort_unstable();
        let mut indices: Vec<usize> = order.iter().take(limit).map(|o| o.2).collect();
        indices.sort_unstable();
        self.select(&indices)
    }

    /// All images in an order that `seed` decides.
    pub fn shuffled(&self, seed: u64) -> Self {
        self.select(&self.permutation(seed))
    }

    /// Two data sets, for training and for validation: the second has round(`fraction` * len)
    /// images, drawn by `seed`. Each image is in one of them.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `fraction` is not in 0..=1.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::parameter("fraction", fraction, "in 0..=1"));
        }
        let validation = ((fraction * self.len() as f64).round() as usize).min(self.len());
        let order = self.permutation(seed);
        let (second, first) = order.split_at(validation);
        Ok((self.select(first), self.select(second)))
    }

    fn permutation(&self, seed: u64) -> Vec<usize> {
        let order = permutation(self.len(), seed, 0).into_iter();
        order.map(|place| place as usize).collect()
    }

    /// The images at `indices`, which are all below `len`.
    fn select(&self, indices: &[usize]) -> Self {
        let labels = match &self.labels {
            Labels::Class(labels) => Labels::Class(indices.iter().map(|&i| labels[i]).collect()),
            Labels::Attributes(all) => {
                let attributes = indices
                    .iter()
                    .map(|&i| &all[i * self.classes..][..self.classes]);
                Labels::Attributes(attributes.flatten().copied().collect())
            }
        };
        let place = |&i: &usize| match &self.order {
            Some(order) => order[i],
            // Below the number of images, which fits.
            None => i as u32,
        };
        Self {
            order: Some(indices.iter().map(place).collect()),
            labels,
            count: indices.len(),
            ..self.clone()
        }
    }
}

/// The same images, labels and names; of picture files the same files.
impl PartialEq for ImageDataset {
    fn eq(&self, other: &Self) -> bool {
        let same_image = |i: usize| match (&*self.store, &*other.store) {
            (Store::Pixels(_), Store::Pixels(_)) => self.stored(i) == other.stored(i),
            _ => self.file(i) == other.file(i),
        };
        let known = |data: &Self| (data.count, data.shape, data.classes, data.fit);
        known(self) == known(other)
            && self.class_names == other.class_names
            && self.labels == other.labels
            && self.is_lazy() == other.is_lazy()
            && (0..self.count).all(same_image)
    }
}

impl Eq for ImageDataset {}

impl std::fmt::Debug for ImageDataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageDataset")
            .field("len", &self.count)
            .field("shape", &self.shape)
            .field("classes", &self.classes)
            .field("is_lazy", &self.is_lazy())
            .finish_non_exhaustive()
    }
}

/// A picture file, decoded into `pixels`.
fn decoded<'a>(
    files: &Pictures,
    place: usize,
    bytes: &mut Vec<u8>,
    pixels: &'a mut Vec<u8>,
) -> Result<Picture<'a>> {
    files.read(place, bytes)?;
    Ok(decode(bytes, pixels).map_err(|message| DataError::Picture {
        file: files.name(place),
        message,
    })?)
}

/// The order of `len` images in an epoch: a Fisher-Yates shuffle by a generator whose key is
/// (`seed`, `epoch`), so that each epoch's order can be had without those before it.
pub(super) fn permutation(len: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    // A data set has less than 2^32 images.
    let mut order: Vec<u32> = (0..len as u32).collect();
    order.shuffle(&mut StdRng::from_seed(key));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `labels.len()` images of 1x1x2, image i with the pixels 2i and 2i + 1.
    fn numbered(labels: &[u16], classes: usize) -> ImageDataset {
        let images = (0..2 * labels.len()).map(|i| i as u8).collect();
        ImageDataset::new(images, labels.to_vec(), ImageShape::new(1, 1, 2), classes).unwrap()
    }

    fn ids(data: &ImageDataset) -> Vec<u8> {
        let pixels = data.pixels().unwrap();
        let ids: Vec<u8> = pixels.chunks(2).map(|p| p[0] / 2).collect();
        assert_eq!(ids.len(), data.len());
        ids
    }

    #[test]
    fn construction_is_checked() {
        let shape = ImageShape::new(3, 2, 2);
        let message = |images: usize, labels: &[u16], shape, classes| {
            ImageDataset::new(vec![0; images], labels.to_vec(), shape, classes)
                .unwrap_err()
                .to_string()
        };
        assert!(ImageDataset::new(vec![0; 24], vec![0, 1], shape, 2).is_ok());
        let m = message(23, &[0, 1], shape, 2);
        assert!(m.contains("2 images of 3x2x2") && m.contains("23"), "{m}");
        let m = message(24, &[0, 2], shape, 2);
        assert!(m.contains("label 2 of image 1"), "{m}");
        let m = message(24, &[0, 0], shape, 0);
        assert!(m.contains("classes = 0"), "{m}");
        let m = message(24, &[0, 0], shape, 65537);
        assert!(m.contains("65537"), "{m}");
        let m = message(0, &[], ImageShape::new(1, 0, 2), 2);
        assert!(m.contains("1x0x2"), "{m}");
        let m = message(0, &[], ImageShape::new(usize::MAX, 2, 2), 2);
        assert!(m.contains("image shape"), "{m}");
        // The product of the count and the image's length wraps around to 0.
        let m = message(0, &[0, 0], ImageShape::new(1, 1, 1 << 63), 2);
        assert!(m.contains("pixel values"), "{m}");
    }

    #[test]
    fn attributes_follow_their_images() {
        let shape = ImageShape::new(1, 1, 2);
        let images: Vec<u8> = (0..8).collect();
        // Image i has attribute 0 if i is odd and attribute 1 if i is at least 2.
        let attributes: Vec<bool> = (0..4).flat_map(|i| [i % 2 == 1, i >= 2]).collect();
        let data = ImageDataset::multi_label(images, attributes.clone(), shape, 2).unwrap();
        assert!(data.is_multi_label() && data.labels().is_empty());
        assert_eq!((data.label(0), data.image_attributes(4)), (None, None));
        let of = |data: &ImageDataset| -> Vec<(u8, Vec<bool>)> {
            let ids = ids(data).into_iter().enumerate();
            ids.map(|(i, id)| (id, data.image_attributes(i).unwrap().to_vec()))
                .collect()
        };
        for (id, found) in of(&data.shuffled(3)) {
            assert_eq!(found, [id % 2 == 1, id >= 2]);
        }
        let (first, second) = data.split(0.25, 1).unwrap();
        assert_eq!((first.len(), second.len()), (3, 1));
        for (id, found) in of(&first).into_iter().chain(of(&second)) {
            assert_eq!(found, [id % 2 == 1, id >= 2]);
        }
        assert_eq!(data.take(3).class_counts(), [1, 1]);
        assert_eq!(data.take_balanced(3), data.take(3));

        let bad = |images: usize, attributes: usize, classes| {
            let attributes = vec![false; attributes];
            ImageDataset::multi_label(vec![0; images], attributes, shape, classes).is_err()
        };
        assert!(bad(7, 8, 2) && bad(8, 7, 2) && bad(8, 8, 3) && bad(8, 0, 0));
        assert!(!bad(8, 4, 1) && !bad(0, 0, 1));
    }

    #[test]
    fn names_are_counted() {
        let data = numbered(&[0, 1], 2);
        assert!(data.clone().with_class_names(["a"]).is_err());
        let data = data.with_class_names(["a", "b"]).unwrap();
        assert_eq!(data.take(1).class_names(), ["a", "b"]);
        assert_eq!(data.shuffled(1).class_names(), ["a", "b"]);
    }

    #[test]
    fn images_and_labels_by_index() {
        let data = numbered(&[2, 0, 1], 3);
        assert_eq!(*data.image(2).unwrap(), [4, 5]);
        let m = data.image(3).unwrap_err().to_string();
        assert!(m.contains("3 (of 3 images)"), "{m}");
        assert_eq!((data.label(0), data.label(3)), (Some(2), None));
        assert_eq!(data.class_counts(), [1, 1, 1]);
    }

    #[test]
    fn subset_keeps_the_order_asked_for() {
        let data = numbered(&[0, 1, 2, 0], 3);
        let some = data.subset(&[3, 1, 3]).unwrap();
        assert_eq!(ids(&some), [3, 1, 3]);
        assert_eq!(some.labels(), [0, 1, 0]);
        let m = data.subset(&[0, 4]).unwrap_err().to_string();
        assert!(m.contains("4 (of 4 images)"), "{m}");
    }

    #[test]
    fn parts_share_the_pixels() {
        let data = numbered(&[0; 100], 1);
        let (train, validation) = data.split(0.2, 7).unwrap();
        let some = train.shuffled(1).take(9).subset(&[4, 2]).unwrap();
        for part in [&train, &validation, &some, &data.take_balanced(3)] {
            assert!(Arc::ptr_eq(&part.store, &data.store));
        }
        assert_eq!(ids(&some)[0], ids(&train.shuffled(1))[4]);
    }

    #[test]
    fn resized_images_keep_their_order_labels_and_channels() {
        // Columns of 0 and 200, then a plane of one value each.
        let pixels = [[0, 200, 0, 200], [10; 4], [30; 4], [50; 4]].concat();
        let shape = ImageShape::new(2, 2, 2);
        let data = ImageDataset::new(pixels, vec![0, 1], shape, 2).unwrap();
        let large = data.subset(&[1, 0]).unwrap().resized(3, 4).unwrap();
        assert_eq!(large.shape(), ImageShape::new(2, 3, 4));
        assert_eq!(large.labels(), [1, 0]);
        assert_eq!(*large.image(0).unwrap(), [[30; 12], [50; 12]].concat());
        // As Pillow's bilinear filter: a fourth of the way between the middles of two pixels.
        let rows = large.image(1).unwrap();
        let expected = [0, 50, 150, 200].repeat(3);
        let close = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 1;
        assert!(rows[..12].iter().zip(&expected).all(close), "{rows:?}");
        assert_eq!(
            large.take(1).resized(2, 2).unwrap(),
            data.subset(&[1]).unwrap()
        );
        assert!(data.resized(0, 2).is_err());
    }

    #[test]
    fn take_is_the_first_images() {
        let data = numbered(&[0, 1, 2, 0], 3);
        assert_eq!(ids(&data.take(2)), [0, 1]);
        assert_eq!(data.take(9), data);
        assert!(data.take(0).is_empty());
    }

    #[test]
    fn balanced_take_spreads_over_the_classes() {
        let data = numbered(&[0, 0, 0, 0, 1, 2, 2, 2], 3);
        assert_eq!(ids(&data.take_balanced(3)), [0, 4, 5]);
        // The fourth goes to the lowest label.
        assert_eq!(ids(&data.take_balanced(4)), [0, 1, 4, 5]);
        // Class 1 runs out.
        assert_eq!(data.take_balanced(7).class_counts(), [3, 1, 3]);
        assert_eq!(data.take_balanced(100), data);
    }

    #[test]
    fn split_is_a_partition_that_the_seed_decides() {
        let data = numbered(&[0; 100], 1);
        let (train, validation) = data.split(0.2, 7).unwrap();
        assert_eq!((train.len(), validation.len()), (80, 20));
        let mut all = ids(&train);
        all.extend(ids(&validation));
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<u8>>());
        assert_eq!(data.split(0.2, 7).unwrap(), (train, validation.clone()));
        assert_ne!(data.split(0.2, 8).unwrap().1, validation);
        assert_eq!(data.split(1.0, 7).unwrap().0.len(), 0);
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(data.split(bad, 0).is_err());
        }
    }
}
