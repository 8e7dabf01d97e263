//! Picture files (JPEG, PNG) as 8-bit pixels.

mod files;
mod jpeg;
mod png;
mod resize;

use std::panic::{catch_unwind, AssertUnwindSafe};

pub(super) use files::Pictures;
pub(super) use resize::{Region, Resizer};

/// A decoded picture: its pixels row by row, the `channels` (1 or 3) of each together.
pub(super) struct Picture<'a> {
    pub channels: usize,
    pub width: usize,
    pub height: usize,
    pub pixels: &'a [u8],
}

/// Decodes a JPEG or PNG, whichever its first bytes say, into `pixels`. The bytes are changed.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode<'a>(
    bytes: &mut Vec<u8>,
    pixels: &'a mut Vec<u8>,
) -> Result<Picture<'a>, String> {
    let decoded = catch_unwind(AssertUnwindSafe(|| match bytes[..] {
        [0xff, 0xd8, ..] => jpeg::decode(bytes, pixels),
        [0x89, b'P', b'N', b'G', ..] => png::decode(bytes, pixels),
        _ => Err(format!("neither JPEG nor PNG, but {}", kind(bytes))),
    }));
    // Damaged bytes may lead a decoder to what its authors held impossible.
    let [channels, width, height] = decoded.map_err(|_| "the decoder gave up".to_owned())??;
    let len = channels * width * height;
    let pixels = pixels.get(..len).filter(|_| len > 0);
    let pixels = pixels.ok_or("without pixels")?;
    Ok(Picture {
        channels,
        width,
        height,
        pixels,
    })
}

/// What a file is that is no picture for us.
fn kind(bytes: &[u8]) -> String {
    let known: [(&[u8], usize, &str); 7] = [
        (b"GIF8", 0, "GIF"),
        (b"WEBP", 8, "WebP"),
        (b"BM", 0, "BMP"),
        (b"II*\0", 0, "TIFF"),
        (b"MM\0*", 0, "TIFF"),
        (b"ftyp", 4, "HEIF, AVIF or a film"),
        (b"<", 0, "a text (HTML, XML, SVG)"),
    ];
    let is = |&&(mark, at, _): &&(&[u8], usize, &str)| {
        bytes.get(at..).is_some_and(|bytes| bytes.starts_with(mark))
    };
    match known.iter().find(is) {
        Some((_, _, name)) => (*name).into(),
        None if bytes.is_empty() => "empty".into(),
        None => format!(
            "a file that begins with {:02x?}",
            &bytes[..bytes.len().min(4)]
        ),
    }
}

/// Endings of names that are pictures of formats which are not read.
const OTHERS: [&str; 12] = [
    "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif", "jp2", "jxl", "ppm", "pgm",
];

/// Whether a name is that of a picture: `None` for other files, or the ending of a format that is not
/// read.
pub(super) fn by_name(name: &str) -> Option<Result<(), String>> {
    let ending = name.rsplit_once('.')?.1.to_ascii_lowercase();
    match &*ending {
        "jpeg" | "jpg" | "jpe" | "jfif" | "png" => Some(Ok(())),
        other if OTHERS.contains(&other) => Some(Err(ending)),
        _ => None,
    }
}
