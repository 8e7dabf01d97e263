//! Sums over batch and pixels, a channel at a time.

use rayon::prelude::*;

use crate::args::conv2d::{check_len, Conv2DShape, OutputGrad};
use crate::concrete::concrete;
use crate::cpu::element::Element;
use crate::cpu::simd::{from_f64, multiversion, sum_of};
use crate::error::Result;

multiversion! {
    /// The sum of each plane of an image, or of its magnitudes.
    fn plane_sums<E>(image: &[E], magnitudes: bool, sums: &mut [f64]) {
        let pixels = image.len() / sums.len();
        for (plane, sum) in image.chunks_exact(pixels).zip(sums) {
            *sum = match magnitudes {
                true => sum_of(plane, |g| g.abs()),
                false => sum_of(plane, |g| g),
            };
        }
    }
}

/// The sums of each channel of `data` (batch, channels, pixels), over the batch in its order. (An
/// image at a time: memory is fastest in its own order.)
fn per_channel<E: Element>(
    data: &[E],
    channels: usize,
    pixels: usize,
    magnitudes: bool,
) -> Vec<f64> {
    let image = channels * pixels;
    if image == 0 {
        return vec![0.0; channels];
    }
    let mut planes = vec![0.0; data.len() / pixels];
    planes
        .par_chunks_mut(channels)
        .zip(data.par_chunks_exact(image))
        .for_each(|(sums, image)| plane_sums(image, magnitudes, sums));
    let mut sums = vec![0.0; channels];
    for image in planes.chunks_exact(channels) {
        sums.iter_mut()
            .zip(image)
            .for_each(|(sum, plane)| *sum += plane);
    }
    sums
}

concrete! {
    /// Mean |dY| of each channel over batch and pixels: for `f32` finite if all of dY is. With NaN in dY
    /// it is NaN, else with an infinite element infinite.
    pub fn importance<E: Element>(dy: &[E], channels: usize, pixels: usize) -> Vec<f64> {
        let count = (dy.len() / channels.max(1)).max(1) as f64;
        let mut sums = per_channel(dy, channels, pixels, true);
        sums.iter_mut().for_each(|sum| *sum /= count);
        sums
    }

    /// db += sum of dY over batch, height and width; dropped channels stay as they are
    ///
    /// # Errors
    /// As [`backward_weight`](super::backward_weight).
    pub fn backward_bias<E: Element>(
        shape: &Conv2DShape,
        dy: OutputGrad<'_, &[E]>,
        db: &mut [E],
    ) -> Result<()> {
        dy.check(shape)?;
        check_len("db", db.len(), &[shape.c_out()])?;
        let channels = dy.channels(shape.c_out());
        let sums = per_channel(dy.data, channels, shape.output_pixels(), false);
        for (slot, sum) in sums.into_iter().enumerate() {
            db[dy.kept.map_or(slot, |kept| kept[slot])] += from_f64::<E>(sum);
        }
        Ok(())
    }

    /// Copies the channels `kept` of `dy` (B, channels, pixels) to `shrunk` (B, kept, pixels).
    pub fn gather<E: Element>(
        dy: &[E],
        channels: usize,
        pixels: usize,
        kept: &[usize],
        shrunk: &mut [E],
    ) {
        shrunk
            .par_chunks_mut((kept.len() * pixels).max(1))
            .zip(dy.par_chunks((channels * pixels).max(1)))
            .for_each(|(to, from)| {
                for (to, &c) in to.chunks_mut(pixels.max(1)).zip(kept) {
                    to.copy_from_slice(&from[c * pixels..][..pixels]);
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importance_ranks_gradients_of_any_size() {
        // The largest channel is neither the first nor the last.
        let factors = [0.25, 0.5, 1.0, 0.75];
        for largest in [1e-30, 1.0, 1e37, f32::MAX] {
            for pixels in [1, 49, 5000] {
                let mut dy = Vec::new();
                for image in 0..3 {
                    for factor in factors {
                        let sign = if image == 1 { -1.0 } else { 1.0 };
                        dy.extend(std::iter::repeat_n(sign * factor * largest, pixels));
                    }
                }
                for (found, factor) in importance(&dy, 4, pixels).iter().zip(factors) {
                    let expected = f64::from(factor * largest);
                    assert!((found / expected - 1.0).abs() < 1e-6, "{found}, {expected}");
                }
            }
        }
        let found = importance(&[1.0, f32::MAX, f32::INFINITY, f32::NAN], 4, 1);
        assert_eq!(found[..3], [1.0, f64::from(f32::MAX), f64::INFINITY]);
        assert!(found[3].is_nan());
    }
}
