//! Random changes of training images.

use std::fmt;
use std::str::FromStr;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::dataset::{ImageDataset, ImageShape, Scratch};
use super::picture::Region;
use crate::error::{Error, Result};

/// Random changes of each image, before it is normalised. Unless told otherwise: none.
///
/// What happens to an image follows from the seed, the epoch and the image's place in the data set, and
/// from nothing else: not from the batches, nor from the number of threads.
///
/// The text of one, for [`FromStr`] and [`Display`](fmt::Display), is its parts with commas, as in
/// `crop=4,flip`, or `none`.
///
/// ```
/// use ssprop::data::Augmentation;
///
/// let usual: Augmentation = "crop=4,flip".parse()?;
/// assert_eq!((usual.crop, usual.flip, usual.resized_crop), (4, true, None));
/// assert_eq!("resized-crop=0.25".parse::<Augmentation>()?.to_string(), "resized-crop=0.25");
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Augmentation {
    /// Moves the image by up to so many pixels each way, and fills with black what it leaves: a random
    /// crop of the image with so much padding (`crop=4`).
    pub crop: usize,
    /// Mirrors every second image, left to right (`flip`).
    pub flip: bool,
    /// Takes a part with at least this share of the image's area, and at most all of it, of an aspect
    /// ratio of 3:4 to 4:3, and resizes it (`resized-crop`, which is `resized-crop=0.08`). Of a picture
    /// file it is a part of the whole picture.
    ///
    /// Source: C. Szegedy et al., arXiv 1409.4842; as torchvision's `RandomResizedCrop` does it.
    pub resized_crop: Option<f64>,
}

/// The share that ImageNet's networks are usually trained with.
const SHARE: f64 = 0.08;

impl Augmentation {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// That the values can be.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the share of a resized crop is not in 0..=1, or 0.
    pub fn check(&self) -> Result<()> {
        match self.resized_crop {
            Some(share) if !(share > 0.0 && share <= 1.0) => Err(Error::parameter(
                "resized-crop",
                share,
                "above 0 and at most 1",
            )),
            _ => Ok(()),
        }
    }

    /// Puts a changed image into `out`; `other` is as large.
    pub(super) fn read(
        &self,
        data: &ImageDataset,
        index: usize,
        (seed, epoch): (u64, u64),
        scratch: &mut Scratch,
        other: &mut [u8],
        out: &mut [u8],
    ) -> Result<()> {
        let mut rng = rng(seed, epoch, index);
        // Drawn whether they are used or not, so that one part's choices are the same with and without
        // the others.
        let part: [f64; 16] = rng.gen();
        let (place, mirrored): ([f64; 3], bool) = (rng.gen(), rng.gen());
        let (down, right): (f64, f64) = (rng.gen(), rng.gen());
        let choose = |width, height| {
            region(
                self.resized_crop.unwrap_or(1.0),
                &part,
                place,
                width,
                height,
            )
        };
        let region: Option<&dyn Fn(usize, usize) -> Region> = match self.resized_crop {
            Some(_) => Some(&choose),
            None => None,
        };
        let shape = data.shape();
        let shift = |uniform: f64| {
            let places = 2 * self.crop + 1;
            ((uniform * places as f64) as usize).min(2 * self.crop) as isize - self.crop as isize
        };
        let flip = self.flip && mirrored;
        if self.crop == 0 && !flip {
            return data.read(index, region, scratch, out);
        }
        data.read(index, region, scratch, other)?;
        moved(other, shape, (shift(down), shift(right)), flip, out);
        Ok(())
    }
}

/// A generator for one image in one epoch.
fn rng(seed: u64, epoch: u64, index: usize) -> StdRng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..24].copy_from_slice(&(index as u64).to_le_bytes());
    // Another one than that of the batches' order.
    key[24] = 1;
    StdRng::from_seed(key)
}

/// The first of eight drawn parts that fits, or the largest one in the middle.
fn region(share: f64, draws: &[f64; 16], place: [f64; 3], width: usize, height: usize) -> Region {
    let (w, h) = (width as f64, height as f64);
    let ratios = ((3.0f64 / 4.0).ln(), (4.0f64 / 3.0).ln());
    let (pairs, _) = draws.as_chunks::<2>();
    let fitting = pairs.iter().find_map(|[area, ratio]| {
        let area = w * h * (share + (1.0 - share) * area);
        let ratio = (ratios.0 + (ratios.1 - ratios.0) * ratio).exp();
        let size = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
        let fits = size.0 >= 1.0 && size.1 >= 1.0 && size.0 <= w && size.1 <= h;
        fits.then_some((size.0 as usize, size.1 as usize))
    });
    let Some((part_width, part_height)) = fitting else {
        let part_width = width.min((h * 4.0 / 3.0).round() as usize).max(1);
        let part_height = height.min((w * 4.0 / 3.0).round() as usize).max(1);
        return Region {
            left: (width - part_width) / 2,
            top: (height - part_height) / 2,
            width: part_width,
            height: part_height,
        };
    };
    let at = |uniform: f64, room: usize| ((uniform * (room + 1) as f64) as usize).min(room);
    Region {
        left: at(place[0], width - part_width),
        top: at(place[1], height - part_height),
        width: part_width,
        height: part_height,
    }
}

/// The image (C, H, W) with each pixel taken from (down, right) of its place, black outside, and then
/// mirrored or not.
fn moved(
    image: &[u8],
    shape: ImageShape,
    (down, right): (isize, isize),
    flip: bool,
    out: &mut [u8],
) {
    let (height, width) = (shape.height, shape.width);
    let plane = height * width;
    let planes = image.chunks_exact(plane).zip(out.chunks_exact_mut(plane));
    for (from, to) in planes {
        for (y, row) in to.chunks_exact_mut(width).enumerate() {
            let source = y.checked_add_signed(down).filter(|&y| y < height);
            let source = source.map(|y| &from[y * width..][..width]);
            for (x, pixel) in row.iter_mut().enumerate() {
                let x = x.checked_add_signed(right).filter(|&x| x < width);
                *pixel = source.zip(x).map_or(0, |(source, x)| source[x]);
            }
            if flip {
                row.reverse();
            }
        }
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.resized_crop
                .map(|share| format!("resized-crop={share}")),
            (self.crop > 0).then(|| format!("crop={}", self.crop)),
            self.flip.then(|| "flip".to_owned()),
        ];
        match parts.into_iter().flatten().collect::<Vec<_>>().join(",") {
            none if none.is_empty() => f.write_str("none"),
            parts => f.write_str(&parts),
        }
    }
}

impl FromStr for Augmentation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = || {
            let range = "none, or some of crop=PIXELS, flip and resized-crop=SHARE, with commas";
            Error::parameter("augmentation", text, range)
        };
        let mut found = Self::default();
        if text == "none" {
            return Ok(found);
        }
        for part in text.split(',') {
            match part.trim().split_once('=').unwrap_or((part.trim(), "")) {
                ("flip", "") => found.flip = true,
                ("resized-crop", "") => found.resized_crop = Some(SHARE),
                ("resized-crop", share) => {
                    found.resized_crop = Some(share.parse().map_err(|_| error())?);
                }
                ("crop", pixels) => {
                    let pixels = pixels.parse::<u16>().map_err(|_| error())?;
                    found.crop = pixels.into();
                }
                _ => return Err(error()),
            }
        }
        found.check()?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for text in ["none", "crop=4,flip", "flip", "resized-crop=0.5,flip"] {
            let parsed: Augmentation = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
        }
        let parsed: Augmentation = "flip, resized-crop".parse().unwrap();
        assert_eq!(parsed.resized_crop, Some(SHARE));
        for text in [
            "",
            "crop",
            "crop=-1",
            "turn",
            "flip=2",
            "resized-crop=0",
            "resized-crop=nan",
        ] {
            assert!(text.parse::<Augmentation>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_image_is_moved_and_mirrored() {
        let shape = ImageShape::new(2, 2, 3);
        let image: Vec<u8> = (1..=12).collect();
        let mut out = vec![99; 12];
        moved(&image, shape, (0, 0), false, &mut out);
        assert_eq!(out, image);
        moved(&image, shape, (1, -1), false, &mut out);
        assert_eq!(out, [0, 4, 5, 0, 0, 0, 0, 10, 11, 0, 0, 0]);
        moved(&image, shape, (0, 0), true, &mut out);
        assert_eq!(out, [3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10]);
        moved(&image, shape, (-9, 0), true, &mut out);
        assert_eq!(out, [0; 12]);
    }

    #[test]
    fn parts_have_the_area_and_shape_asked_for() {
        let (mut left, mut small) = (0, 0);
        for index in 0..500 {
            let mut rng = rng(1, 2, index);
            let r = region(0.25, &rng.gen(), rng.gen(), 200, 100);
            assert!(r.left + r.width <= 200 && r.top + r.height <= 100);
            let (area, ratio) = (r.width * r.height, r.width as f64 / r.height as f64);
            assert!((4900..=20000).contains(&area), "{r:?}");
            assert!((0.7..1.4).contains(&ratio), "{r:?}");
            left += usize::from(r.left + r.width / 2 < 100);
            small += usize::from(area < 10000);
        }
        assert!((180..320).contains(&left) && small > 200, "{left} {small}");
        // Nothing of that shape fits: the middle.
        let whole = region(1.0, &[0.5; 16], [0.0; 3], 1000, 10);
        assert_eq!((whole.width, whole.height, whole.left), (13, 10, 493));
    }
}
