//! JPEG.

use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Channels, width and height; the pixels lie in `pixels`.
pub(super) fn decode(bytes: &mut Vec<u8>, pixels: &mut Vec<u8>) -> Result<[usize; 3], String> {
    let end = end(bytes).map_err(|at| format!("ends at byte {at}, inside the picture"))?;
    // What follows (a film, a second picture) does not matter, and the decoder does not see it.
    bytes.truncate(end.at);
    if end.in_scan {
        bytes.extend(ONES);
    }
    bytes.extend(END);
    let bytes = &bytes[..];
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(bytes, options);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("without a size")?;
    // A block of 8x8 pixels takes a bit at least: no memory for what cannot be there.
    if width * height > 512 * bytes.len() {
        return Err(format!(
            "claims {width}x{height} pixels in {} bytes",
            bytes.len()
        ));
    }
    let grey = decoder.get_input_colorspace() == Some(ColorSpace::Luma);
    let (channels, space) = match grey {
        true => (1, ColorSpace::Luma),
        false => (3, ColorSpace::RGB),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let len = channels * width * height;
    if pixels.len() < len {
        pixels.resize(len, 0);
    }
    decoder
        .decode_into(&mut pixels[..len])
        .map_err(|e| e.to_string())?;
    Ok([channels, width, height])
}

const END: [u8; 2] = [0xff, 0xd9];

/// 1-bits that are put after the last scan. No code consists of them alone, so that the decoder fails if
/// the scan ends before its last block, where it would fill the picture up with grey.
const ONES: [u8; 48] = {
    let mut ones = [0; 48];
    let mut i = 0;
    while i < 48 {
        ones[i] = 0xff;
        i += 2;
    }
    ones
};

/// Where a JPEG's end marker is.
#[derive(Debug, PartialEq)]
struct End {
    at: usize,
    /// Whether it follows the data of a scan directly.
    in_scan: bool,
}

/// Where a JPEG ends: found by going from segment to segment, so that the end of
/// a thumbnail in one of them is not taken for it.
///
/// # Errors
/// Where the bytes end instead.
fn end(bytes: &[u8]) -> Result<End, usize> {
    let mut at = 2;
    let mut in_scan = false;
    loop {
        // Up to the next marker: of a scan's data, where an ff is followed by 00 or a restart, or of what
        // lies between segments, where there should be nothing.
        let ff = bytes.get(at..).unwrap_or_default();
        at += ff.iter().position(|&b| b == 0xff).ok_or(bytes.len())? + 1;
        match bytes.get(at) {
            None => return Err(bytes.len()),
            Some(0xff) => (),
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(0xd9) => {
                // Before the filling, which there may be.
                let at = bytes[..at].iter().rposition(|&b| b != 0xff).unwrap_or(0) + 1;
                return Ok(End { at, in_scan });
            }
            // A segment with its length.
            Some(&marker) => match bytes.get(at + 1..at + 3) {
                Some(len) => {
                    in_scan = marker == 0xda;
                    at += 1 + usize::from(u16::from_be_bytes([len[0], len[1]])).max(2);
                }
                None => return Err(bytes.len()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_that_of_the_picture() {
        let segment = |marker, body: &[u8]| {
            let len = (body.len() as u16 + 2).to_be_bytes();
            [&[0xff, marker][..], &len, body].concat()
        };
        // A thumbnail with its own start, scan and end.
        let thumbnail = segment(0xe1, &[0xff, 0xd8, 0xff, 0xda, 0, 2, 7, 0xff, 0xd9]);
        let scan = segment(0xda, &[1, 2, 3]);
        let data = [5, 0xff, 0, 6, 0xff, 0xd3, 7, 0xff, 0xff, 0xd9];
        let whole = [&[0xff, 0xd8][..], &thumbnail, &scan, &data].concat();
        // The last ff but one is filling.
        let at = whole.len() - 3;
        for more in [&[][..], &[0u8; 9], &[0xff, 0xd8, 0xff, 0xd9], &[0xff, 0xda]] {
            let found = end(&[&whole, more].concat());
            assert_eq!(found, Ok(End { at, in_scan: true }));
        }
        let comment = segment(0xfe, b"after the scan");
        let later = [&whole[..at], &comment, &END].concat();
        let at = later.len() - 2;
        assert_eq!(end(&later), Ok(End { at, in_scan: false }));
        for len in 2..whole.len() {
            assert_eq!(end(&whole[..len]), Err(len));
        }
    }

    #[test]
    fn more_pixels_than_bytes_can_hold_take_no_memory() {
        let mut header = vec![
            0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0xff, 0xff, 0xff, 0xff, 1, 1, 0x11, 0,
        ];
        header.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0xff, 0xd9]);
        let mut pixels = Vec::new();
        assert!(decode(&mut header, &mut pixels).is_err());
        assert!(pixels.is_empty());
    }
}
