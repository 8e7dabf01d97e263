//! A data set that a small network learns in a few epochs.

use ssprop::data::{ImageDataset, ImageShape};

/// Vertical and horizontal stripes with some noise, in turn.
pub fn stripes(n: usize) -> ImageDataset {
    let pixel = |i: usize, y: usize, x: usize| {
        let line = if i.is_multiple_of(2) { x } else { y } + i / 2;
        let noise = (i * 7919 + y * 104_729 + x * 1_299_709) % 61;
        (line % 2 * 190 + noise) as u8
    };
    let images = (0..n * 64).map(|k| pixel(k / 64, k / 8 % 8, k % 8));
    let labels = (0..n).map(|i| (i % 2) as u16);
    let shape = ImageShape::new(1, 8, 8);
    ImageDataset::new(images.collect(), labels.collect(), shape, 2).unwrap()
}
