//! Sums over batch and pixels, a channel at a time.

use rayon::prelude::*;

use super::geometry::{Conv2DShape, OutputGrad};
use crate::element::Element;
use crate::simd::{from_f64, multiversion, Lanes, SUM_RUN};

multiversion! {
    fn plane_sum<E>(plane: &[E]) -> f64 {
        plane.chunks(SUM_RUN).fold(0.0, |total, run| {
            let mut sum = Lanes::new();
            sum.add(run, |g| g);
            total + sum.total()
        })
    }
}

multiversion! {
    fn plane_abs_sum<E>(plane: &[E]) -> f64 {
        plane.chunks(SUM_RUN).fold(0.0, |total, run| {
            let mut sum = Lanes::new();
            sum.add(run, |g| g.abs());
            total + sum.total()
        })
    }
}

/// `of` each plane of `data` (batch, channels, pixels), summed over the batch in its order.
fn per_channel<E: Element>(
    data: &[E],
    channels: usize,
    pixels: usize,
    of: fn(&[E]) -> f64,
) -> Vec<f64> {
    let batch = data.len() / (channels * pixels).max(1);
    (0..channels)
        .into_par_iter()
        .map(|c| {
            (0..batch)
                .map(|b| of(&data[(b * channels + c) * pixels..][..pixels]))
                .sum()
        })
        .collect()
}

/// Mean |dY| of each channel over batch and pixels.
pub fn importance<E: Element>(dy: &[E], channels: usize, pixels: usize) -> Vec<f64> {
    let count = (dy.len() / channels.max(1)).max(1) as f64;
    let mut sums = per_channel(dy, channels, pixels, plane_abs_sum);
    sums.iter_mut().for_each(|sum| *sum /= count);
    sums
}

/// db += sum of dY over batch, height and width; dropped channels stay as they are
pub fn backward_bias<E: Element>(shape: &Conv2DShape, dy: OutputGrad<'_, [E]>, db: &mut [E]) {
    let channels = dy.channels(shape.c_out);
    let sums = per_channel(dy.data, channels, shape.output_pixels(), plane_sum);
    for (slot, sum) in sums.into_iter().enumerate() {
        db[dy.kept.map_or(slot, |kept| kept[slot])] += from_f64::<E>(sum);
    }
}
