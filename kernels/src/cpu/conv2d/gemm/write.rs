//! Products that are written to parts of planes.

use super::blocks::CHUNK;
use super::kernel::Output;
use crate::args::Fill;
use crate::cpu::workspace::Workspace;

/// Parts of planes: row i of image n is the `pixels` elements from `first` + n * `image` + i * `row`
/// on.
#[derive(Clone, Copy)]
pub struct Parts {
    pub first: usize,
    pub images: usize,
    pub image: usize,
    pub row: usize,
    pub pixels: usize,
}

/// Chunks of `pixels` pixels of each of `images` images, `image` apart.
pub fn chunks(images: usize, image: usize, pixels: usize) -> Vec<usize> {
    (0..images)
        .flat_map(|n| (0..pixels).step_by(CHUNK).map(move |p| n * image + p))
        .collect()
}

/// Lets `products` write `rows` rows to, or add them onto, parts of `planes`.
pub fn write(
    planes: &mut [f32],
    parts: Parts,
    rows: usize,
    fill: Fill,
    products: impl FnOnce(Output<'_>),
) {
    let Parts {
        first,
        images,
        image,
        row,
        pixels,
    } = parts;
    if pixels.is_multiple_of(CHUNK) {
        return products(Output {
            data: &mut planes[first..],
            row,
            chunks: &chunks(images, image, pixels),
            accumulate: fill == Fill::Add,
        });
    }
    // Whole chunks would reach into the next rows: by way of a copy.
    let padded = pixels.next_multiple_of(CHUNK);
    let len = images * padded;
    let mut copy = Workspace::take(rows * len);
    products(Output {
        data: &mut copy,
        row: len,
        chunks: &chunks(images, padded, pixels),
        accumulate: false,
    });
    for (i, copy) in copy.chunks_exact(len.max(1)).enumerate() {
        for (n, copy) in copy.chunks_exact(padded).enumerate() {
            let planes = &mut planes[first + n * image + i * row..][..pixels];
            match fill {
                Fill::Overwrite => planes.copy_from_slice(&copy[..pixels]),
                Fill::Add => planes.iter_mut().zip(copy).for_each(|(p, c)| *p += c),
            }
        }
    }
}
