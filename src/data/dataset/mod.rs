//! Labelled images, in memory or in files.

mod damaged;
mod parts;
mod pixels;
mod shape;

use std::sync::Arc;

use super::fit::Fit;
use super::picture::Pictures;
use crate::error::{DataError, Error, Result};
pub use damaged::DamagedPicture;
pub(super) use parts::permutation;
pub(super) use pixels::Scratch;
pub use shape::ImageShape;

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
        check_classes(classes)?;
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
        check_classes(classes)?;
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
}

/// That labels, which are `u16`, can tell `classes` classes.
fn check_classes(classes: usize) -> Result<()> {
    match classes {
        1..=65536 => Ok(()),
        _ => Err(Error::parameter("classes", classes, "in 1..=65536")),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `labels.len()` images of 1x1x2, image i with the pixels 2i and 2i + 1.
    pub(super) fn numbered(labels: &[u16], classes: usize) -> ImageDataset {
        let images = (0..2 * labels.len()).map(|i| i as u8).collect();
        ImageDataset::new(images, labels.to_vec(), ImageShape::new(1, 1, 2), classes).unwrap()
    }

    pub(super) fn ids(data: &ImageDataset) -> Vec<u8> {
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
}
