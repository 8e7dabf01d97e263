//! Group normalisation on the CPU.
//!
//! A group of one image lies in memory as one run, small enough for a core's cache. So a task takes
//! whole groups, one after the other, through all passes: memory is read once and written once. What
//! is summed over the images is kept for each image apart and added up in the images' order.

use rayon::prelude::*;

use crate::args::group_norm::{Activation, Grads, GroupNormOp, Input, Saved};
use crate::args::Fill;
use crate::args::ImageDims;
use crate::concrete::concrete;
use crate::cpu::blocks::{optional, ELEMENTS};
use crate::cpu::element::Element;
use crate::cpu::silu::{silu, silu_grad_from_output};
use crate::cpu::simd::{dot_of, from_f64, multiversion, sum_of, to_f64};
use crate::cpu::workspace::Workspace;

/// The sizes that the kernels go by.
#[derive(Clone, Copy)]
struct Sizes {
    /// C
    channels: usize,
    /// The channels of a group.
    group: usize,
    /// H * W
    plane: usize,
}

impl Sizes {
    fn of(dims: ImageDims, groups: usize) -> Self {
        Self {
            channels: dims.channels,
            group: dims.channels / groups.max(1),
            plane: dims.plane,
        }
    }

    /// The elements of a group of one image.
    fn run(&self) -> usize {
        self.group * self.plane
    }

    /// The groups that a task takes.
    fn block(&self) -> usize {
        (ELEMENTS / self.run().max(1)).max(1)
    }
}

/// What one channel of one image needs for z = (x + offset) * scale + bias.
#[derive(Clone, Copy)]
struct Channel<E> {
    /// shift - mean
    offset: E,
    /// weight * inv_std
    scale: E,
    bias: E,
}

impl<E: Element> Channel<E> {
    #[inline(always)]
    fn z(&self, x: E) -> E {
        (x + self.offset) * self.scale + self.bias
    }
}

/// shift - mean of channel `c` of a group.
#[inline(always)]
fn offset<E: Element>(shift: Option<&[E]>, c: usize, mean: E) -> E {
    match shift {
        Some(shift) => shift[c] - mean,
        None => -mean,
    }
}

/// The mean of x + shift over a group.
#[inline(always)]
fn group_mean<E: Element>(plane: usize, x: &[E], shift: Option<&[E]>) -> f64 {
    let mut sum = sum_of(x, |v| v);
    if let Some(shift) = shift {
        let shifts: f64 = shift.iter().map(|&s| to_f64(s)).sum();
        sum += shifts * plane as f64;
    }
    sum / x.len() as f64
}

/// The biased variance of x + shift over a group.
#[inline(always)]
fn group_var<E: Element>(plane: usize, x: &[E], shift: Option<&[E]>, mean: E) -> f64 {
    let squares = |x: &[E], offset: E| sum_of(x, |v| (v + offset) * (v + offset));
    let sum = match shift {
        // All channels have one offset.
        None => squares(x, -mean),
        Some(_) => (x.chunks_exact(plane).enumerate())
            .map(|(c, x)| squares(x, offset(shift, c, mean)))
            .sum(),
    };
    sum / x.len() as f64
}

multiversion! {
    /// The groups from number `first` on: their statistics, and y = f(z).
    fn block_forward<E>(
        sizes: Sizes,
        op: &GroupNormOp,
        first: usize,
        x: &[E],
        shift: Option<&[E]>,
        weight: &[E],
        bias: &[E],
        y: &mut [E],
        mean: &mut [E],
        inv_std: &mut [E],
    ) {
        let (group, plane) = (sizes.group, sizes.plane);
        let runs = x.chunks_exact(sizes.run()).zip(y.chunks_exact_mut(sizes.run()));
        for (i, (x, y)) in runs.enumerate() {
            let shift = shift.map(|s| &s[i * group..][..group]);
            mean[i] = from_f64(group_mean(plane, x, shift));
            let var = group_var(plane, x, shift, mean[i]);
            inv_std[i] = from_f64(1.0 / (var + op.eps).sqrt());
            let at = (first + i) * group % sizes.channels;
            for (c, (x, y)) in x.chunks_exact(plane).zip(y.chunks_exact_mut(plane)).enumerate() {
                let channel = Channel {
                    offset: offset(shift, c, mean[i]),
                    scale: weight[at + c] * inv_std[i],
                    bias: bias[at + c],
                };
                match op.activation {
                    Activation::Identity => {
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = channel.z(x);
                        }
                    }
                    Activation::SiLU => {
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = silu(channel.z(x));
                        }
                    }
                }
            }
        }
    }
}

/// The sums over one channel of one image.
#[derive(Clone, Copy, Default)]
struct ChannelSums {
    /// Of dz.
    dz: f64,
    /// Of dz * (x + offset).
    dz_x: f64,
    /// Of x + offset. Only taken if there is a shift.
    x: f64,
    /// Of |dx|. Only taken for the channels' importance.
    abs_dx: f64,
}

multiversion! {
    /// The groups from number `first` on: dx, and the sums over each channel of each image. `y`
    /// is given if it is SiLU's; `dz` then has room for a group.
    fn block_backward<E>(
        sizes: Sizes,
        first: usize,
        x: &[E],
        y: Option<&[E]>,
        shift: Option<&[E]>,
        weight: &[E],
        bias: &[E],
        mean: &[E],
        inv_std: &[E],
        dy: &[E],
        dx: &mut [E],
        fill: Fill,
        wants_importance: bool,
        dshift: Option<&mut [E]>,
        dz: &mut [E],
        sums: &mut [ChannelSums],
    ) {
        let (group, plane, run) = (sizes.group, sizes.plane, sizes.run());
        let mut dshift = dshift;
        for (i, sums) in sums.chunks_exact_mut(group).enumerate() {
            let (x, dy, dx) = (&x[i * run..][..run], &dy[i * run..][..run], &mut dx[i * run..][..run]);
            let y = y.map(|y| &y[i * run..][..run]);
            let shift = shift.map(|s| &s[i * group..][..group]);
            let at = (first + i) * group % sizes.channels;
            let inv = to_f64(inv_std[i]);
            let channel = |c: usize| Channel {
                offset: offset(shift, c, mean[i]),
                scale: weight[at + c] * inv_std[i],
                bias: bias[at + c],
            };

            // The group's means of weight * dz and of weight * dz * (x + offset).
            let (mut mean_dz, mut mean_dz_x) = (0.0, 0.0);
            for (c, sums) in sums.iter_mut().enumerate() {
                let channel = channel(c);
                let part = c * plane..(c + 1) * plane;
                let (x, dy) = (&x[part.clone()], &dy[part.clone()]);
                let dz: &[E] = match y {
                    None => dy,
                    Some(y) => {
                        let (dz, y) = (&mut dz[part.clone()], &y[part]);
                        for (((dz, &x), &y), &dy) in dz.iter_mut().zip(x).zip(y).zip(dy) {
                            *dz = silu_grad_from_output(channel.z(x), y, dy);
                        }
                        dz
                    }
                };
                let sum_dz = sum_of(dz, |dz| dz);
                let sum_dz_x = dot_of(x, dz, |x| x + channel.offset);
                let weight = to_f64(weight[at + c]);
                mean_dz += weight * sum_dz / run as f64;
                mean_dz_x += weight * sum_dz_x / run as f64;
                (sums.dz, sums.dz_x) = (sum_dz, sum_dz_x);
                if shift.is_some() {
                    sums.x = sum_of(x, |x| x + channel.offset);
                }
            }

            // dx = scale * dz - level - (x + offset) * slope
            let (level, slope) = (inv * mean_dz, inv * inv * inv * mean_dz_x);
            let (level_e, slope_e): (E, E) = (from_f64(level), from_f64(slope));
            let dz: &[E] = if y.is_some() { dz } else { dy };
            for (c, sums) in sums.iter_mut().enumerate() {
                let Channel { offset, scale, .. } = channel(c);
                let part = c * plane..(c + 1) * plane;
                let (x, dz, dx) = (&x[part.clone()], &dz[part.clone()], &mut dx[part]);
                let value = |x: E, dz: E| scale * dz - level_e - (x + offset) * slope_e;
                let elements = dx.iter_mut().zip(x).zip(dz);
                match fill {
                    Fill::Add => elements.for_each(|((dx, &x), &dz)| *dx += value(x, dz)),
                    Fill::Overwrite => elements.for_each(|((dx, &x), &dz)| *dx = value(x, dz)),
                }
                if wants_importance {
                    sums.abs_dx = sum_of(dx, |v| v.abs());
                }
                if let Some(dshift) = &mut dshift {
                    // The sum of dx, without what may have been in the buffer before.
                    dshift[i * group + c] = from_f64(
                        to_f64(scale) * sums.dz - level * plane as f64 - slope * sums.x,
                    );
                }
                // From here on with xhat = (x + offset) * inv_std.
                sums.dz_x *= inv;
            }
        }
    }
}

concrete! {
    /// y, and each group's mean and 1 / sqrt(var + eps) for the backward pass.
    pub fn forward<E: Element>(
        op: &GroupNormOp,
        dims: ImageDims,
        groups: usize,
        input: Input<&[E]>,
        y: &mut [E],
        saved: [&mut [E]; 2],
    ) {
        let [mean, inv_std] = saved;
        groups_forward(Sizes::of(dims, groups), op, input, y, mean, inv_std);
    }

    /// dx (+)= the gradient of x for dy, `params` += those of weight and bias, and the others.
    pub fn backward<E: Element>(
        dims: ImageDims,
        groups: usize,
        saved: Saved<&[E]>,
        dy: &[E],
        dx: (&mut [E], Fill),
        grads: Grads<&mut [E], &mut [f64]>,
        params: [&mut [E]; 2],
    ) {
        let Grads {
            importance,
            dshift,
        } = grads;
        let [dweight, dbias] = params;
        let sizes = Sizes::of(dims, groups);
        let sums = groups_backward(sizes, saved, dy, dx, importance.is_some(), dshift);
        over_images(&sums, dweight, |s| s.dz_x);
        over_images(&sums, dbias, |s| s.dz);
        if let Some(importance) = importance {
            let count = (dims.batch * sizes.plane).max(1) as f64;
            for (c, importance) in importance.iter_mut().enumerate() {
                let images = sums.iter().skip(c).step_by(sizes.channels.max(1));
                *importance = images.map(|s| s.abs_dx).sum::<f64>() / count;
            }
        }
    }
}

/// Adds to each channel of `total` its sum over the images, in their order.
fn over_images<E: Element>(
    sums: &[ChannelSums],
    total: &mut [E],
    of: impl Fn(&ChannelSums) -> f64,
) {
    let channels = total.len().max(1);
    for (c, total) in total.iter_mut().enumerate() {
        *total += from_f64(sums.iter().skip(c).step_by(channels).map(&of).sum());
    }
}

fn groups_forward<E: Element>(
    sizes: Sizes,
    op: &GroupNormOp,
    input: Input<&[E]>,
    y: &mut [E],
    mean: &mut [E],
    inv_std: &mut [E],
) {
    let Input {
        x,
        shift,
        weight,
        bias,
    } = input;
    if x.is_empty() {
        return;
    }
    let block = sizes.block();
    let shifts = shift.map(|s| s.chunks(block * sizes.group));
    let shifts = optional(shifts, mean.len().div_ceil(block));
    y.par_chunks_mut(block * sizes.run())
        .zip(x.par_chunks(block * sizes.run()))
        .zip(mean.par_chunks_mut(block))
        .zip(inv_std.par_chunks_mut(block))
        .zip(shifts)
        .enumerate()
        .for_each(|(i, ((((y, x), mean), inv_std), shift))| {
            let first = i * block;
            block_forward(sizes, op, first, x, shift, weight, bias, y, mean, inv_std);
        });
}

/// The sums over each channel of each image, (B, C).
fn groups_backward<E: Element>(
    sizes: Sizes,
    saved: Saved<&[E]>,
    dy: &[E],
    (dx, fill): (&mut [E], Fill),
    wants_importance: bool,
    dshift: Option<&mut [E]>,
) -> Vec<ChannelSums> {
    let Saved {
        input:
            Input {
                x,
                shift,
                weight,
                bias,
            },
        y,
        mean,
        inv_std,
    } = saved;
    let mut sums = vec![ChannelSums::default(); mean.len() * sizes.group];
    if x.is_empty() {
        if let Some(dshift) = dshift {
            dshift.fill(E::zero());
        }
        return sums;
    }
    let block = sizes.block();
    let count = mean.len().div_ceil(block);
    let ys = optional(y.map(|y| y.chunks(block * sizes.run())), count);
    let shifts = optional(shift.map(|s| s.chunks(block * sizes.group)), count);
    let dshifts = optional(dshift.map(|s| s.chunks_mut(block * sizes.group)), count);
    sums.par_chunks_mut(block * sizes.group)
        .zip(dx.par_chunks_mut(block * sizes.run()))
        .zip(dy.par_chunks(block * sizes.run()))
        .zip(x.par_chunks(block * sizes.run()).zip(ys))
        .zip(mean.par_chunks(block).zip(inv_std.par_chunks(block)))
        .zip(shifts.into_par_iter().zip(dshifts))
        .enumerate()
        .for_each(
            |(i, (((((sums, dx), dy), (x, y)), (mean, inv_std)), (shift, dshift)))| {
                let mut dz = Workspace::take(y.map_or(0, |_| sizes.run()));
                let first = i * block;
                block_backward(
                    sizes,
                    first,
                    x,
                    y,
                    shift,
                    weight,
                    bias,
                    mean,
                    inv_std,
                    dy,
                    dx,
                    fill,
                    wants_importance,
                    dshift,
                    &mut dz,
                    sums,
                );
            },
        );
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each channel's mean |dx| for gradients of about `size`.
    fn importance<E: Element>(size: f64) -> Vec<f64>
    where
        (): forward<E> + backward<E>,
    {
        let (batch, channels, plane, groups) = (5, 6, 300, 2);
        let dims = ImageDims {
            batch,
            channels,
            plane,
        };
        let len = batch * channels * plane;
        let x: Vec<E> = (0..len).map(|i| from_f64((i as f64 * 1.7).sin())).collect();
        let weight: Vec<E> = (0..channels)
            .map(|c| from_f64(0.5 + (c * 3 % 7) as f64 / 7.0))
            .collect();
        let zeros = |len| vec![E::zero(); len];
        let (bias, mut y) = (zeros(channels), zeros(len));
        let (mut mean, mut inv_std) = (zeros(batch * groups), zeros(batch * groups));
        let input = Input {
            x: &x[..],
            shift: None,
            weight: &weight[..],
            bias: &bias[..],
        };
        let op = GroupNormOp::default();
        forward(&op, dims, groups, input, &mut y, [&mut mean, &mut inv_std]);
        let saved = Saved {
            input,
            y: None,
            mean: &mean[..],
            inv_std: &inv_std[..],
        };
        let dy: Vec<E> = (0..len)
            .map(|i| from_f64(size * ((i as f64 * 0.9).cos() + 0.5) / 1.5))
            .collect();
        let (mut found, mut dx) = (vec![0.0; channels], zeros(len));
        let grads = Grads {
            importance: Some(&mut found[..]),
            dshift: None,
        };
        let params = [&mut zeros(channels)[..], &mut zeros(channels)];
        backward(
            dims,
            groups,
            saved,
            &dy,
            (&mut dx, Fill::Overwrite),
            grads,
            params,
        );
        found
    }

    #[test]
    fn importance_of_large_gradients_is_finite() {
        let (found, expected) = (importance::<f32>(1e38), importance::<f64>(1e38));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found / expected - 1.0).abs() < 1e-5, "{found}, {expected}");
        }
    }
}
