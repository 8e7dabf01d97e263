//! The sum of images and an embedding of their positions, on the CPU.

use rayon::prelude::*;

use crate::args::ImageDims;
use crate::concrete::concrete;
use crate::cpu::element::Element;
use crate::cpu::simd::{from_f64, multiversion, to_f64};

multiversion! {
    fn add_to_sums<E>(from: &[E], sums: &mut [f64]) {
        for (sum, &from) in sums.iter_mut().zip(from) {
            *sum += to_f64(from);
        }
    }
}

multiversion! {
    fn block_forward<E>(x: &[E], embedding: &[E], y: &mut [E]) {
        for ((y, &x), &embedding) in y.iter_mut().zip(x).zip(embedding) {
            *y = x + embedding;
        }
    }
}

concrete! {
    /// y = x + embedding, x being (B, C, H W), the embedding (H W, C).
    pub fn forward<E: Element>(dims: ImageDims, x: &[E], embedding: &[E], y: &mut [E]) {
        let (channels, plane) = (dims.channels, dims.plane);
        let image = (channels * plane).max(1);
        let at = |i: usize| embedding[i % plane * channels + i / plane];
        let transposed: Vec<E> = (0..channels * plane).map(at).collect();
        y.par_chunks_mut(image)
            .zip(x.par_chunks(image))
            .for_each(|(y, x)| block_forward(x, &transposed, y));
    }

    /// gradient += the sum of dy over the images, in their order.
    pub fn backward<E: Element>(dims: ImageDims, dy: &[E], gradient: &mut [E]) {
        let (channels, plane) = (dims.channels, dims.plane);
        let mut sums = vec![0.0; channels * plane];
        sums.par_chunks_mut(plane.max(1)).enumerate().for_each(|(c, sums)| {
            for image in dy.chunks_exact(channels * plane) {
                add_to_sums(&image[c * plane..][..plane], sums);
            }
        });
        for (i, sum) in sums.into_iter().enumerate() {
            gradient[i % plane * channels + i / plane] += from_f64(sum);
        }
    }
}
