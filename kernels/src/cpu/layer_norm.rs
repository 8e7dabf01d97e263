//! Layer normalisation on the CPU: over the channels of each position.
//!
//! The channels of a position lie a plane apart, and neighbouring positions side by side: loops go along
//! the positions, with a sum for each. An image is small enough for a core's cache, so a task takes
//! whole images, one after the other, through all passes.

use rayon::prelude::*;

use crate::args::layer_norm::{LayerNormOp, Saved};
use crate::args::{Fill, ImageDims};
use crate::concrete::concrete;
use crate::cpu::blocks::ELEMENTS;
use crate::cpu::element::Element;
use crate::cpu::simd::{dot_of, from_f64, multiversion, sum_of, to_f64};

/// The images that a task takes.
fn block(dims: ImageDims) -> usize {
    (ELEMENTS / (dims.channels * dims.plane).max(1)).max(1)
}

multiversion! {
    /// y, mean and 1 / sqrt(var + eps) of one image. `sums` has room for a plane.
    fn image_forward<E>(
        eps: f64,
        x: &[E],
        weight: &[E],
        bias: &[E],
        y: &mut [E],
        mean: &mut [E],
        inv_std: &mut [E],
        sums: &mut [f64],
    ) {
        let (plane, count) = (mean.len(), weight.len() as f64);
        sums.fill(0.0);
        for x in x.chunks_exact(plane) {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += to_f64(x);
            }
        }
        for (mean, sum) in mean.iter_mut().zip(&mut *sums) {
            *mean = from_f64(*sum / count);
            *sum = 0.0;
        }
        for x in x.chunks_exact(plane) {
            for ((sum, &x), &mean) in sums.iter_mut().zip(x).zip(&*mean) {
                let centred = to_f64(x - mean);
                *sum += centred * centred;
            }
        }
        for (inv_std, &sum) in inv_std.iter_mut().zip(&*sums) {
            *inv_std = from_f64(1.0 / (sum / count + eps).sqrt());
        }
        let rows = x.chunks_exact(plane).zip(y.chunks_exact_mut(plane));
        for ((x, y), (&weight, &bias)) in rows.zip(weight.iter().zip(bias)) {
            let positions = mean.iter().zip(&*inv_std);
            for ((y, &x), (&mean, &inv_std)) in y.iter_mut().zip(x).zip(positions) {
                *y = (x - mean) * inv_std * weight + bias;
            }
        }
    }
}

multiversion! {
    /// dx of one image, and to `sums` for each channel the sums of dy xhat and of dy, with
    /// xhat = (x - mean) inv_std. `room` is two planes, and `row` one.
    fn image_backward<E>(
        x: &[E],
        weight: &[E],
        mean: &[E],
        inv_std: &[E],
        dy: &[E],
        dx: &mut [E],
        fill: Fill,
        sums: &mut [[f64; 2]],
        room: &mut [f64],
        row: &mut [E],
    ) {
        let (plane, count) = (mean.len(), weight.len() as f64);
        room.fill(0.0);
        let (of_dz, of_dz_x) = room.split_at_mut(plane);
        let rows = x.chunks_exact(plane).zip(dy.chunks_exact(plane));
        for ((x, dy), (&weight, sums)) in rows.zip(weight.iter().zip(sums)) {
            for ((xhat, &x), (&mean, &inv_std)) in row.iter_mut().zip(x).zip(mean.iter().zip(inv_std)) {
                *xhat = (x - mean) * inv_std;
            }
            *sums = [dot_of(dy, row, |dy| dy), sum_of(dy, |dy| dy)];
            let totals = of_dz.iter_mut().zip(&mut *of_dz_x);
            for ((of_dz, of_dz_x), (&xhat, &dy)) in totals.zip(row.iter().zip(dy)) {
                let dz = dy * weight;
                *of_dz += to_f64(dz);
                *of_dz_x += to_f64(dz * xhat);
            }
        }
        // dx = inv_std (dz - level - xhat slope), level and slope being means over the channels.
        for total in room.iter_mut() {
            *total /= count;
        }
        let (level, slope) = room.split_at(plane);
        let rows = x.chunks_exact(plane).zip(dy.chunks_exact(plane));
        for ((x, dy), (dx, &weight)) in rows.zip(dx.chunks_exact_mut(plane).zip(weight)) {
            let read = x.iter().zip(dy).zip(mean.iter().zip(inv_std));
            let means = level.iter().zip(slope);
            for ((dx, ((&x, &dy), (&mean, &inv_std))), (&level, &slope)) in dx.iter_mut().zip(read).zip(means) {
                let xhat = (x - mean) * inv_std;
                let centred = dy * weight - from_f64::<E>(level) - xhat * from_f64::<E>(slope);
                fill.write(dx, inv_std * centred);
            }
        }
    }
}

concrete! {
    /// y, and of each position of each image the mean and 1 / sqrt(var + eps) for the backward pass.
    pub fn forward<E: Element>(
        op: &LayerNormOp,
        dims: ImageDims,
        x: &[E],
        weight: &[E],
        bias: &[E],
        y: &mut [E],
        saved: [&mut [E]; 2],
    ) {
        if x.is_empty() {
            return;
        }
        let [mean, inv_std] = saved;
        let (plane, image, block) = (dims.plane, dims.channels * dims.plane, block(dims));
        y.par_chunks_mut(block * image)
            .zip(x.par_chunks(block * image))
            .zip(mean.par_chunks_mut(block * plane))
            .zip(inv_std.par_chunks_mut(block * plane))
            .for_each(|(((y, x), mean), inv_std)| {
                let mut sums = vec![0.0; plane];
                let images = y.chunks_mut(image).zip(x.chunks(image));
                let saved = mean.chunks_mut(plane).zip(inv_std.chunks_mut(plane));
                for ((y, x), (mean, inv_std)) in images.zip(saved) {
                    image_forward(op.eps, x, weight, bias, y, mean, inv_std, &mut sums);
                }
            });
    }

    /// dx (+)= the gradient of x for dy, and adds those of weight and bias.
    pub fn backward<E: Element>(
        dims: ImageDims,
        saved: Saved<&[E]>,
        dy: &[E],
        dx: (&mut [E], Fill),
        grads: [&mut [E]; 2],
    ) {
        let Saved { x, weight, mean, inv_std } = saved;
        let (dx, fill) = dx;
        let (plane, image, block) = (dims.plane, dims.channels * dims.plane, block(dims));
        let mut sums = vec![[0.0; 2]; dims.batch * dims.channels];
        if !x.is_empty() {
            dx.par_chunks_mut(block * image)
                .zip(x.par_chunks(block * image))
                .zip(dy.par_chunks(block * image))
                .zip(mean.par_chunks(block * plane).zip(inv_std.par_chunks(block * plane)))
                .zip(sums.par_chunks_mut(block * dims.channels))
                .for_each(|((((dx, x), dy), (mean, inv_std)), sums)| {
                    let (mut room, mut row) = (vec![0.0; 2 * plane], vec![E::zero(); plane]);
                    let images = dx.chunks_mut(image).zip(x.chunks(image)).zip(dy.chunks(image));
                    let saved = mean.chunks(plane).zip(inv_std.chunks(plane));
                    let of_images = saved.zip(sums.chunks_mut(dims.channels));
                    for (((dx, x), dy), ((mean, inv_std), sums)) in images.zip(of_images) {
                        image_backward(x, weight, mean, inv_std, dy, dx, fill, sums, &mut room, &mut row);
                    }
                });
        }
        // Over the images, in their order.
        for (which, to) in grads.into_iter().enumerate() {
            for (c, to) in to.iter_mut().enumerate() {
                let images = sums.iter().skip(c).step_by(dims.channels.max(1));
                *to += from_f64(images.map(|sums| sums[which]).sum());
            }
        }
    }
}
