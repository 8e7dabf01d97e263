//! Batches of normalised images, and their tensors.

use std::ops::Range;

use crate::backend::Backend;
use dfdx::dtypes::Dtype;
use dfdx::shapes::Const;
use dfdx::tensor::Tensor;

use super::dataset::ImageShape;
use super::recycled::Recycled;
use crate::bridge::upload;
use crate::error::DataError;
use crate::error::{Error, Result};

/// Normalised images and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub(super) images: Recycled,
    pub(super) labels: Vec<usize>,
    pub(super) attributes: Vec<bool>,
    pub(super) multi_label: bool,
    pub(super) indices: Vec<usize>,
    pub(super) shape: ImageShape,
    pub(super) part: Part,
}

/// Which images of a whole batch a rank's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// The place of the first one in the whole batch.
    pub first: usize,
    /// The images of the whole batch.
    pub of: usize,
    /// Whether they are another rank's, as there are fewer images than ranks.
    pub is_spare: bool,
}

impl Part {
    /// The images of the whole batch that rank `rank` of `ranks` has. There is always one.
    pub fn of(len: usize, [rank, ranks]: [usize; 2]) -> (Range<usize>, Self) {
        let is_spare = len < ranks && rank >= len;
        let range = match len < ranks {
            true if is_spare => 0..len.min(1),
            true => rank..rank + 1,
            false => len * rank / ranks..len * (rank + 1) / ranks,
        };
        let part = Self {
            first: range.start,
            of: len,
            is_spare,
        };
        (range, part)
    }
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Number of images in the batch that this is [a rank's share](super::BatchLoader::share_of) of:
    /// without ranks as many as there are.
    pub fn whole_len(&self) -> usize {
        self.part.of
    }

    /// The place of the first image in the whole batch.
    pub fn first_place(&self) -> usize {
        self.part.first
    }

    /// The share of the whole batch's images that these are: by which their mean loss is weighted. 0 where
    /// there are fewer images than ranks, and this rank goes along with an image of another's.
    pub fn share(&self) -> f64 {
        match self.part.is_spare {
            true => 0.0,
            false if self.len() == self.part.of => 1.0,
            false => self.len() as f64 / self.part.of.max(1) as f64,
        }
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

    /// That the images are of this size.
    pub(crate) fn check_shape(&self, op: &'static str, wanted: ImageShape) -> Result<()> {
        if self.shape == wanted {
            return Ok(());
        }
        Err(Error::shape(
            op,
            "images",
            format_args!("{wanted}"),
            format_args!("{}", self.shape),
        ))
    }

    /// The images as a tensor of shape (N, C, H, W).
    ///
    /// # Errors
    /// [`Error::Shape`] if the images are not `C`x`H`x`W`; [`Error::Parameter`] if a value does
    /// not fit into `E`; [`Error::Device`] if memory runs out.
    #[allow(clippy::type_complexity)] // The shape is the point.
    pub fn image_tensor<const C: usize, const H: usize, const W: usize, E: Dtype, D: Backend<E>>(
        &self,
        dev: &D,
    ) -> Result<Tensor<(usize, Const<C>, Const<H>, Const<W>), E, D>> {
        self.check_shape("Batch::image_tensor", ImageShape::new(C, H, W))?;
        let shape = (self.len(), Const, Const, Const);
        // As they are, if the tensor's elements are f32 too.
        let images: &Vec<f32> = &self.images;
        if let Some(values) = (images as &dyn std::any::Any).downcast_ref::<Vec<E>>() {
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
    pub fn targets<const CLASSES: usize, E: Dtype, D: Backend<E>>(
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
    pub fn one_hot<const CLASSES: usize, E: Dtype, D: Backend<E>>(
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
