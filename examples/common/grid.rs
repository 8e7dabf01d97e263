//! Images as PNGs: a grid of them, and a folder with one in each.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage};
use ssprop::checkpoint::write_file;
use ssprop::data::{ImageDataset, ImageShape};
use ssprop::Error;

/// Pixels between two images of a grid, and around them.
const GAP: usize = 2;
/// Their value: white, which shows where dark images end.
const GAP_VALUE: u8 = 255;

/// The 8-bit value of -1..=1; what is below or above is clamped, NaN is black.
fn to_byte(value: f32) -> u8 {
    // `as` saturates, and takes NaN for 0.
    ((value + 1.0) * 127.5).round() as u8
}

/// Writes images, (N, C, H, W) with values in -1..=1, as one PNG, grey (C = 1) or RGB (C = 3): row by
/// row, `columns` in each, every pixel a square of `scale`, 2 (unscaled) pixels apart. A file that was
/// at `path` before is replaced as a whole or not at all.
pub fn write_grid(
    path: &Path,
    images: &[f32],
    shape: (usize, usize, usize),
    columns: usize,
    scale: usize,
) -> ssprop::Result<()> {
    let mut png = Cursor::new(Vec::new());
    grid(images, shape, columns, scale)?
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|err| format_error(path, err.to_string()))?;
    write_file(path, &png.into_inner())
}

/// Writes grids, as [`write_grid`] does, one after the other as an animated PNG: each is shown for a tenth of a
/// second, the last one for two seconds, again and again.
pub fn write_animation(
    path: &Path,
    frames: &[Vec<f32>],
    shape: (usize, usize, usize),
    columns: usize,
    scale: usize,
) -> ssprop::Result<()> {
    let pictures = frames
        .iter()
        .map(|images| grid(images, shape, columns, scale));
    let pictures = pictures.collect::<ssprop::Result<Vec<_>>>()?;
    let png = animation(&pictures).map_err(|err| format_error(path, err.to_string()))?;
    write_file(path, &png)
}

/// Pictures of one size and kind as a file.
fn animation(pictures: &[DynamicImage]) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let Some(first) = pictures.first() else {
        return Ok(file);
    };
    let mut encoder = png::Encoder::new(&mut file, first.width(), first.height());
    encoder.set_color(match first {
        DynamicImage::ImageLuma8(_) => png::ColorType::Grayscale,
        _ => png::ColorType::Rgb,
    });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_animated(pictures.len() as u32, 0)?;
    encoder.set_frame_delay(1, 10)?;
    let mut writer = encoder.write_header()?;
    for (i, picture) in pictures.iter().enumerate() {
        if i + 1 == pictures.len() {
            writer.set_frame_delay(2, 1)?;
        }
        writer.write_image_data(picture.as_bytes())?;
    }
    writer.finish()?;
    Ok(file)
}

/// The picture that [`write_grid`] writes.
fn grid(
    images: &[f32],
    (channels, height, width): (usize, usize, usize),
    columns: usize,
    scale: usize,
) -> ssprop::Result<DynamicImage> {
    if channels != 1 && channels != 3 {
        return Err(Error::parameter("channels", channels, "1 or 3"));
    }
    for (name, value) in [("columns", columns), ("scale", scale)] {
        if value == 0 {
            return Err(Error::parameter(name, value, "at least 1"));
        }
    }
    let shape = ImageShape::new(channels, height, width);
    let len = shape.checked_len().filter(|&len| len > 0);
    let len = len.filter(|len| !images.is_empty() && images.len().is_multiple_of(*len));
    let len = len.ok_or_else(|| {
        let expected = format!("one or more images of {shape}");
        Error::shape("write_grid", "number of values", expected, images.len())
    })?;
    let count = images.len() / len;
    let columns = columns.min(count);
    let rows = count.div_ceil(columns);

    let extent = |n: usize, size: usize| (n * (size + GAP) + GAP).checked_mul(scale);
    let extent = |n, size| extent(n, size).and_then(|len| u32::try_from(len).ok());
    let (Some(right), Some(bottom)) = (extent(columns, width), extent(rows, height)) else {
        return Err(Error::parameter("scale", scale, "small enough for a PNG"));
    };
    // The place of a pixel of the grid in one of the images.
    let place = |at: u32, size: usize| {
        let at = (at as usize / scale).checked_sub(GAP)?;
        let (number, inside) = (at / (size + GAP), at % (size + GAP));
        (inside < size).then_some((number, inside))
    };
    let value = |x: u32, y: u32, channel: usize| {
        let ((column, x), (row, y)) = (place(x, width)?, place(y, height)?);
        let at = (row * columns + column) * len + (channel * height + y) * width + x;
        images.get(at).copied().map(to_byte)
    };
    let value = |x, y, channel| value(x, y, channel).unwrap_or(GAP_VALUE);
    Ok(if channels == 1 {
        GrayImage::from_fn(right, bottom, |x, y| [value(x, y, 0)].into()).into()
    } else {
        RgbImage::from_fn(right, bottom, |x, y| Rgb([0, 1, 2].map(|c| value(x, y, c)))).into()
    })
}

/// Images, (N, C, H, W) with values in -1..=1, as the 8-bit values that a PNG of them has. Their labels are
/// these `classes` in turn.
pub fn to_dataset(
    images: &[f32],
    shape: ImageShape,
    classes: &[u16],
) -> ssprop::Result<ImageDataset> {
    let pixels: Vec<u8> = images.iter().copied().map(to_byte).collect();
    let count = pixels.len() / shape.checked_len().unwrap_or(0).max(1);
    let labels = classes.iter().copied().cycle().take(count).collect();
    let last = classes.iter().max().copied().unwrap_or(0);
    ImageDataset::new(pixels, labels, shape, usize::from(last) + 1)
}

/// The PNGs of a folder, each one image, in the order of their names: all of one of the `sizes`
/// (height, width), converted to grey (`channels` = 1) or RGB (3). Other files are left aside; the
/// images have no labels, so all are of one class.
pub fn read_folder(
    folder: &Path,
    channels: usize,
    sizes: &[(usize, usize)],
) -> ssprop::Result<ImageDataset> {
    let paths = pngs(folder)?;
    let mut size = None;
    let mut pixels = Vec::new();
    for path in &paths {
        let bytes = std::fs::read(path).map_err(|err| Error::io(path, "read", err))?;
        let picture = image::load_from_memory_with_format(&bytes, ImageFormat::Png)
            .map_err(|err| format_error(path, err.to_string()))?;
        let found = (picture.height() as usize, picture.width() as usize);
        let fits = size.map_or(sizes.contains(&found), |size| size == found);
        if !fits {
            let allowed = size.map_or(sizes.to_vec(), |size| vec![size]);
            let allowed: Vec<String> = allowed.iter().map(|(h, w)| format!("{h}x{w}")).collect();
            return Err(format_error(
                path,
                format!(
                    "a picture of {}x{} (height x width), which has to be {}",
                    found.0,
                    found.1,
                    allowed.join(" or ")
                ),
            ));
        }
        size = Some(found);
        if channels == 1 {
            pixels.extend(picture.into_luma8().into_raw());
        } else {
            let picture = picture.into_rgb8();
            for channel in 0..channels {
                pixels.extend(picture.pixels().map(|pixel| pixel.0[channel]));
            }
        }
    }
    let Some((height, width)) = size else {
        return Err(format_error(folder, "no file *.png in the folder".into()));
    };
    let shape = ImageShape::new(channels, height, width);
    ImageDataset::new(pixels, vec![0; paths.len()], shape, 1)
}

/// The folder's files with the extension png, in the order of their names.
fn pngs(folder: &Path) -> ssprop::Result<Vec<PathBuf>> {
    let read_error = |err| Error::io(folder, "read the folder", err);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read_error)? {
        let path = entry.map_err(read_error)?.path();
        let extension = path.extension().and_then(|e| e.to_str());
        if extension.is_some_and(|e| e.eq_ignore_ascii_case("png")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn format_error(path: &Path, what: String) -> Error {
    Error::Format {
        path: path.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pixels of a written grid: rows of (row, column) values, a channel after the other.
    fn written(
        images: &[f32],
        shape: (usize, usize, usize),
        columns: usize,
        scale: usize,
    ) -> DynamicImage {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        std::fs::write(&path, "an older file").unwrap();
        write_grid(&path, images, shape, columns, scale).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        image::open(&path).unwrap()
    }

    #[test]
    fn values_become_bytes() {
        for (value, byte) in [
            (-1.0, 0),
            (1.0, 255),
            (0.0, 128),
            (-7.0, 0),
            (1.001, 255),
            (f32::INFINITY, 255),
            (f32::NAN, 0),
        ] {
            assert_eq!(to_byte(value), byte, "{value}");
        }
        let data = to_dataset(&[-1.0, 1.0, 0.0, 3.0], ImageShape::new(1, 1, 2), &[4]).unwrap();
        assert_eq!((data.labels(), data.classes()), (&[4u16, 4][..], 5));
        assert_eq!(
            (data.len(), data.pixels().unwrap()),
            (2, vec![0, 255, 128, 255])
        );
        assert!(to_dataset(&[0.0; 3], ImageShape::new(1, 1, 2), &[0]).is_err());
        // Normalised pixels come back.
        for byte in 0..=255u8 {
            assert_eq!(to_byte((f32::from(byte) / 255.0 - 0.5) / 0.5), byte);
        }
    }

    #[test]
    fn an_animation_shows_each_grid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("way.png");
        for channels in [1, 3] {
            let shape = (channels, 2, 2);
            let frame = |value: f32| vec![value; 3 * channels * 4];
            let frames = [frame(-1.0), frame(0.0), frame(1.0)];
            write_animation(&path, &frames, shape, 2, 1).unwrap();
            let file = std::fs::File::open(&path).unwrap();
            let mut reader = png::Decoder::new(std::io::BufReader::new(file))
                .read_info()
                .unwrap();
            let control = reader.info().animation_control().copied().unwrap();
            assert_eq!((control.num_frames, control.num_plays), (3, 0));
            let mut pixels = vec![0; reader.output_buffer_size()];
            for (i, values) in frames.iter().enumerate() {
                reader.next_frame(&mut pixels).unwrap();
                let found = reader.info().frame_control().unwrap();
                let delay = if i == 2 { (2, 1) } else { (1, 10) };
                assert_eq!((found.delay_num, found.delay_den), delay);
                assert_eq!(pixels, grid(values, shape, 2, 1).unwrap().as_bytes());
            }
        }
        assert!(write_animation(&path, &[vec![0.0; 5]], (1, 2, 2), 2, 1).is_err());
    }

    #[test]
    fn images_lie_row_by_row_with_gaps() {
        // Three images of 1 x 2 pixels in two columns; the last place stays empty.
        let bytes = [10u8, 20, 30, 40, 50, 60];
        let images = bytes.map(|b| f32::from(b) / 127.5 - 1.0);
        let g = GAP_VALUE;
        #[rustfmt::skip]
        let wanted = [
            g, g, g, g, g, g, g, g, g, g,
            g, g, g, g, g, g, g, g, g, g,
            g, g, 10, 20, g, g, 30, 40, g, g,
            g, g, g, g, g, g, g, g, g, g,
            g, g, g, g, g, g, g, g, g, g,
            g, g, 50, 60, g, g, g, g, g, g,
            g, g, g, g, g, g, g, g, g, g,
            g, g, g, g, g, g, g, g, g, g,
        ];
        let picture = written(&images, (1, 1, 2), 2, 1);
        let DynamicImage::ImageLuma8(grey) = &picture else {
            panic!("{:?}", picture.color());
        };
        assert_eq!(grey.dimensions(), (10, 8));
        assert_eq!(grey.as_raw(), &wanted);

        let scaled = written(&images, (1, 1, 2), 2, 3).into_luma8();
        assert_eq!(scaled.dimensions(), (30, 24));
        for (x, y, pixel) in scaled.enumerate_pixels() {
            assert_eq!(pixel, grey.get_pixel(x / 3, y / 3), "{x} {y}");
        }
        // No more columns than images.
        let narrow = written(&images, (1, 1, 2), 100, 1);
        assert_eq!((narrow.width(), narrow.height()), (14, 5));
    }

    #[test]
    fn channels_become_colours() {
        // 3 x 2 x 1: red on top, then (0, 255, 255).
        let picture = written(&[1.0, -1.0, -1.0, 1.0, -1.0, 1.0], (3, 2, 1), 1, 1);
        let rgb = picture.into_rgb8();
        assert_eq!(rgb.dimensions(), (5, 6));
        assert_eq!(rgb.get_pixel(2, 2), &Rgb([255, 0, 0]));
        assert_eq!(rgb.get_pixel(2, 3), &Rgb([0, 255, 255]));
        assert_eq!(rgb.get_pixel(1, 3), &Rgb([GAP_VALUE; 3]));
    }

    #[test]
    fn what_is_no_grid_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        let write = |images: &[f32], shape, columns, scale| {
            let err = write_grid(&path, images, shape, columns, scale).unwrap_err();
            assert!(!path.exists());
            err.to_string()
        };
        assert!(write(&[0.0; 4], (2, 1, 2), 1, 1).contains("channels = 2"));
        assert!(write(&[0.0; 4], (1, 2, 2), 0, 1).contains("columns = 0"));
        assert!(write(&[0.0; 4], (1, 2, 2), 1, 0).contains("scale = 0"));
        assert!(write(&[0.0; 4], (1, 2, 2), 1, usize::MAX).contains("scale"));
        assert!(write(&[0.0; 5], (1, 2, 2), 1, 1).contains("found 5"));
        assert!(write(&[], (1, 2, 2), 1, 1).contains("1x2x2"));
        assert!(write(&[], (1, 0, 2), 1, 1).contains("1x0x2"));

        let nowhere = folder.path().join("no/grid.png");
        let err = write_grid(&nowhere, &[0.0; 4], (1, 2, 2), 1, 1).unwrap_err();
        assert!(err.to_string().contains("no/grid.png"), "{err}");
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let empty = read_folder(folder.path(), 1, &[(2, 3)]).unwrap_err();
        assert!(empty.to_string().contains("*.png"), "{empty}");
        let grey = |from: u8| GrayImage::from_fn(3, 2, |x, y| [from + (3 * y + x) as u8].into());
        grey(10).save(at("b.png")).unwrap();
        grey(0).save(at("a.PNG")).unwrap();
        std::fs::write(at("notes.txt"), "not a picture").unwrap();
        let data = read_folder(folder.path(), 1, &[(3, 2), (2, 3)]).unwrap();
        assert_eq!(data.shape(), ImageShape::new(1, 2, 3));
        let wanted: Vec<u8> = (0..6).chain(10..16).collect();
        assert_eq!(data.pixels().unwrap(), wanted);
        let rgb = read_folder(folder.path(), 3, &[(2, 3)]).unwrap();
        assert_eq!(*rgb.image(1).unwrap(), wanted[6..].repeat(3));

        let coloured = RgbImage::from_pixel(3, 2, Rgb([200, 200, 200]));
        coloured.save(at("c.png")).unwrap();
        let data = read_folder(folder.path(), 1, &[(2, 3)]).unwrap();
        assert_eq!(*data.image(2).unwrap(), [200; 6]);

        // Each alone is of an allowed size.
        GrayImage::new(2, 3).save(at("d.png")).unwrap();
        let err = read_folder(folder.path(), 1, &[(2, 3), (3, 2)]).unwrap_err();
        let err = err.to_string();
        assert!(err.contains("d.png") && err.contains("3x2"), "{err}");
        let err = read_folder(folder.path(), 1, &[(4, 4), (5, 5)]).unwrap_err();
        let err = err.to_string();
        assert!(err.contains("a.PNG") && err.contains("4x4 or 5x5"), "{err}");
        std::fs::write(at("d.png"), "text").unwrap();
        let err = read_folder(folder.path(), 1, &[(2, 3)]).unwrap_err();
        assert!(err.to_string().contains("d.png"), "{err}");
        let err = read_folder(&at("nowhere"), 1, &[(2, 3)]).unwrap_err();
        assert!(err.to_string().contains("nowhere"), "{err}");
    }
}
