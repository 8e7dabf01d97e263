//! The pixels of images: those of memory, and those that are decoded and resized.

use std::borrow::Cow;
use std::sync::Arc;

use super::{ImageDataset, ImageShape, Store};
use crate::data::fit::Fit;
use crate::data::picture::{decode, Picture, Pictures, Region, Resizer};
use crate::error::{DataError, Error, FileName, Result};

/// What a thread that reads images keeps from one to the next.
#[derive(Default)]
pub(in crate::data) struct Scratch {
    pub(super) file: Vec<u8>,
    pub(in crate::data) pixels: Vec<u8>,
    pub(in crate::data) resizer: Resizer,
}

impl ImageDataset {
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
    pub(super) fn place(&self, index: usize) -> Option<usize> {
        match &self.order {
            Some(order) => order.get(index).map(|&place| place as usize),
            None => (index < self.count).then_some(index),
        }
    }

    /// The pixels of an image that lies in memory.
    pub(in crate::data) fn stored(&self, index: usize) -> Option<&[u8]> {
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
    pub(in crate::data) fn read(
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
}

/// A picture file, decoded into `pixels`.
pub(super) fn decoded<'a>(
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
