//! Picture files (JPEG, PNG) as 8-bit pixels of one size.

use std::path::{Path, PathBuf};

use image::imageops::{crop_imm, resize, FilterType};
use image::RgbImage;
use rayon::prelude::*;

use super::dataset::ImageShape;
use crate::error::{DataError, DataResult, FileName};
use crate::error::{Error, Result};

/// The pixels, (N, 3, `side`, `side`), of the pictures at `paths`: of each the square in its
/// middle that has `share` of its shorter side, resized.
///
/// # Errors
/// [`DataError`] for a file that cannot be read; [`Error::Parameter`] if so many pictures do not fit
/// into memory.
pub(super) fn read_squares(paths: &[PathBuf], shape: ImageShape, share: f64) -> Result<Vec<u8>> {
    let image_len = shape.image_len()?;
    let too_many = || {
        Error::parameter(
            "images",
            paths.len(),
            "few enough for the memory: set a limit",
        )
    };
    let len = paths.len().checked_mul(image_len).ok_or_else(too_many)?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(len).map_err(|_| too_many())?;
    pixels.resize(len, 0);
    pixels
        .par_chunks_exact_mut(image_len)
        .zip(paths)
        .try_for_each(|(pixels, path)| {
            let picture = square(&read(path)?, shape.height, share);
            for (i, pixel) in picture.pixels().enumerate() {
                for (c, &value) in pixel.0.iter().enumerate() {
                    pixels[c * shape.height * shape.width + i] = value;
                }
            }
            Ok::<_, DataError>(())
        })?;
    Ok(pixels)
}

fn read(path: &Path) -> DataResult<RgbImage> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Io {
        file: FileName {
            archive: None,
            file: path.into(),
        },
        offset: 0,
        source,
    })?;
    let damaged = |message: String| DataError::Picture {
        file: FileName::of(path),
        message,
    };
    if is_cut_off_jpeg(&bytes) {
        return Err(damaged(format!(
            "ends at byte {}, inside the picture",
            bytes.len()
        )));
    }
    let picture = image::load_from_memory(&bytes).map_err(|e| damaged(e.to_string()))?;
    Ok(picture.into_rgb8())
}

/// Whether a JPEG's last scan has no end, which the decoder would fill up with grey.
///
/// No marker can lie inside a scan's data, and thumbnails come before it.
fn is_cut_off_jpeg(bytes: &[u8]) -> bool {
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    bytes.starts_with(&[0xff, 0xd8]) && last([0xff, 0xd9]) < last([0xff, 0xda])
}

fn square(picture: &RgbImage, side: usize, share: f64) -> RgbImage {
    let (width, height) = picture.dimensions();
    let from = ((f64::from(width.min(height)) * share).round() as u32).max(1);
    let (left, top) = ((width.max(from) - from) / 2, (height.max(from) - from) / 2);
    let middle = crop_imm(picture, left, top, from, from).to_image();
    // The triangle's support grows with the reduction, so that nothing is aliased.
    resize(&middle, side as u32, side as u32, FilterType::Triangle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageFormat, Rgb};

    /// A picture whose left, middle and right thirds are red, green and blue.
    fn stripes(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, _| {
            let mut pixel = [0; 3];
            pixel[(3 * x / width) as usize] = 255;
            Rgb(pixel)
        })
    }

    #[test]
    fn the_middle_is_cut_out_and_resized() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.png");
        stripes(90, 30).save(&path).unwrap();
        let shape = ImageShape::new(3, 4, 4);
        let pixels = read_squares(&[path.clone(), path], shape, 1.0).unwrap();
        let one = [[0; 16], [255; 16], [0; 16]].concat();
        assert_eq!(pixels, [one.clone(), one].concat());
    }

    #[test]
    fn channels_rows_and_columns_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.png");
        let picture = RgbImage::from_fn(2, 2, |x, y| Rgb([x as u8, y as u8, 7]));
        picture.save(&path).unwrap();
        let pixels = read_squares(&[path], ImageShape::new(3, 2, 2), 1.0).unwrap();
        assert_eq!(pixels, [0, 1, 0, 1, 0, 0, 1, 1, 7, 7, 7, 7]);
    }

    #[test]
    fn a_share_of_the_shorter_side() {
        let picture = RgbImage::from_fn(16, 8, |x, y| Rgb([x as u8, y as u8, 0]));
        let found = square(&picture, 4, 0.5);
        assert_eq!(found.get_pixel(0, 0), &Rgb([6, 2, 0]));
        assert_eq!(found.get_pixel(3, 3), &Rgb([9, 5, 0]));
        assert_eq!(square(&stripes(1, 1), 3, 0.1).dimensions(), (3, 3));
    }

    #[test]
    fn damaged_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("face.jpg");
        let mut jpeg = std::io::Cursor::new(Vec::new());
        stripes(64, 64)
            .write_to(&mut jpeg, ImageFormat::Jpeg)
            .unwrap();
        let jpeg = jpeg.into_inner();
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_squares(std::slice::from_ref(&path), ImageShape::new(3, 8, 8), 1.0)
        };
        assert!(read(&jpeg).is_ok());
        // Cut off at every byte, and not a picture at all.
        let cuts = (0..jpeg.len()).map(|len| &jpeg[..len]);
        for bytes in cuts.chain([&b"text"[..]]) {
            let message = read(bytes).unwrap_err().to_string();
            assert!(message.contains("face.jpg"), "{message}");
        }
        std::fs::remove_file(&path).unwrap();
        let e =
            read_squares(std::slice::from_ref(&path), ImageShape::new(3, 8, 8), 1.0).unwrap_err();
        assert!(e.to_string().contains("face.jpg"), "{e}");
    }
}
