//! PNG.

use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, Limits};

/// Channels, width and height; the pixels lie in `pixels`.
pub(super) fn decode(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<[usize; 3], String> {
    let error = |e: image::ImageError| e.to_string();
    let mut limits = Limits::default();
    // Deflate makes at most 1032 bytes of one.
    limits.max_alloc = Some((bytes.len() as u64 + 64) * 1032 * 8);
    let mut decoder =
        PngDecoder::with_limits(std::io::Cursor::new(bytes), limits.clone()).map_err(error)?;
    limits.reserve(decoder.total_bytes()).map_err(error)?;
    decoder.set_limits(limits).map_err(error)?;
    let picture = DynamicImage::from_decoder(decoder)
        .map_err(error)?
        .into_rgb8();
    let (width, height) = picture.dimensions();
    *pixels = picture.into_raw();
    Ok([3, width as usize, height as usize])
}
