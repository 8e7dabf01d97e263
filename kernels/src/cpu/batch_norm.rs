//! Batch normalisation on the CPU: each task takes a block of channels through all passes, so that
//! the passes after the first find the block in the core's cache.

mod all_ranks;

use std::ops::Range;

use rayon::prelude::*;

use crate::args::batch_norm::{Activation, AllRanks, BatchNorm2DOp, Input, Saved, Statistics};
use crate::args::Fill;
use crate::args::ImageDims;
use crate::concrete::concrete;
use crate::cpu::element::Element;
use crate::cpu::simd::{
    from_f64, multiversion, prefetch, relu, relu_grad, sum_of, to_f64, Lanes, SUM_RUN,
};
use crate::error::Result;

/// The statistics of one channel over `count` elements.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    /// The sum of (x - mean)^2.
    m2: f64,
}

impl Moments {
    /// The statistics of both sets of elements together (Chan, Golub and LeVeque, 1979).
    #[inline(always)]
    fn merge(&mut self, count: f64, mean: f64, m2: f64) {
        let total = self.count + count;
        let delta = mean - self.mean;
        self.mean += delta * (count / total);
        self.m2 += m2 + delta * delta * (self.count * count / total);
        self.count = total;
    }

    /// The mean and 1 / sqrt(var + eps).
    fn normalizing<E: Element>(&self, op: &BatchNorm2DOp) -> (E, E) {
        let var = self.m2 / self.count;
        (from_f64(self.mean), from_f64(1.0 / (var + op.eps).sqrt()))
    }
}

/// The pieces of one channel that are summed at a time, about [`SUM_RUN`] elements each: several
/// images' planes where they are small, a part of one where they are large. As (images, part).
#[inline(always)]
fn pieces(images: usize, plane: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let group = (SUM_RUN / plane).max(1);
    (0..images).step_by(group).flat_map(move |b| {
        (0..plane)
            .step_by(SUM_RUN)
            .map(move |i| (b..(b + group).min(images), i..(i + SUM_RUN).min(plane)))
    })
}

/// Asks for a part of a run that comes next.
#[inline(always)]
fn ahead<E>(runs: &[impl AsRef<[E]>], b: usize, start: usize, end: usize) {
    if let Some(run) = runs.get(b) {
        prefetch(&run.as_ref()[start..end]);
    }
}

multiversion! {
    /// The statistics of each channel of a block.
    fn block_moments<E>(plane: usize, x: &[&[E]], moments: &mut [Moments]) {
        for (images, part) in pieces(x.len(), plane) {
            let count = (images.len() * part.len()) as f64;
            for (i, moments) in moments.iter_mut().enumerate() {
                let (start, end) = (i * plane + part.start, i * plane + part.end);
                let mut sum = Lanes::new();
                for b in images.clone() {
                    ahead(x, b + 1, start, end);
                    sum.add(&x[b][start..end], |v| v);
                }
                let mean = sum.total() / count;
                let shift: E = from_f64(mean);
                let mut m2 = Lanes::new();
                for x in &x[images.clone()] {
                    m2.add(&x[start..end], |v| (v - shift) * (v - shift));
                }
                moments.merge(count, mean, m2.total());
            }
        }
    }
}

/// (x - mean) * scale + bias: the one expression that forward and backward share, so that the mask
/// computed again in the backward pass is the forward's to the bit.
#[inline(always)]
fn affine<E: Element>(x: E, mean: E, scale: E, bias: E) -> E {
    (x - mean) * scale + bias
}

/// The numbers that normalise one channel.
#[derive(Clone, Copy)]
struct Channel<E> {
    mean: E,
    inv_std: E,
    weight: E,
    bias: E,
}

impl<E: Element> Channel<E> {
    #[inline(always)]
    fn scale(&self) -> E {
        self.weight * self.inv_std
    }
}

multiversion! {
    /// y = f(affine(x) + residual)
    fn block_forward<E>(
        plane: usize,
        activation: Activation,
        channels: &[Channel<E>],
        x: &[&[E]],
        residual: Option<&[&[E]]>,
        y: &mut [&mut [E]],
    ) {
        for b in 0..x.len() {
            ahead(y, b + 1, 0, x[b].len());
            let (x, y) = (x[b], &mut y[b]);
            let planes = x.chunks_exact(plane).zip(y.chunks_exact_mut(plane)).zip(channels);
            for (i, ((x, y), c)) in planes.enumerate() {
                let (mean, scale, bias) = (c.mean, c.scale(), c.bias);
                let residual = residual.map(|r| &r[b][i * plane..][..plane]);
                match (residual, activation) {
                    (None, Activation::Identity) => {
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = affine(x, mean, scale, bias);
                        }
                    }
                    (None, Activation::ReLU) => {
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = relu(affine(x, mean, scale, bias));
                        }
                    }
                    (Some(r), Activation::Identity) => {
                        for ((y, &x), &r) in y.iter_mut().zip(x).zip(r) {
                            *y = affine(x, mean, scale, bias) + r;
                        }
                    }
                    (Some(r), Activation::ReLU) => {
                        for ((y, &x), &r) in y.iter_mut().zip(x).zip(r) {
                            *y = relu(affine(x, mean, scale, bias) + r);
                        }
                    }
                }
            }
        }
    }
}

/// The sums over a channel that its gradients need.
#[derive(Clone, Copy, Default)]
struct GradSums {
    /// The sum of dz, z being what the activation is applied to.
    dz: f64,
    /// The sum of dz * (x - mean).
    dz_x: f64,
}

impl GradSums {
    /// The gradients of weight and bias.
    fn params<E: Element>(&self, c: &Channel<E>) -> (E, E) {
        (from_f64(self.dz_x * to_f64(c.inv_std)), from_f64(self.dz))
    }

    /// What the statistics of `count` elements hand on to dx: the mean of dz, and the slope over x.
    fn through<E: Element>(&self, c: &Channel<E>, count: f64) -> (E, E) {
        let inv_std = to_f64(c.inv_std);
        let slope = self.dz_x * inv_std * inv_std / count;
        (from_f64(self.dz / count), from_f64(slope))
    }
}

/// What lets the gradient through: how dz follows from dy.
#[derive(Clone, Copy)]
enum Mask<'a, E> {
    /// dz = dy
    Identity,
    /// From the output before the ReLU, computed again from x.
    Recomputed,
    /// From the output of the ReLU.
    Output(&'a [&'a [E]]),
}

impl<'a, E> Mask<'a, E> {
    /// That of an activation whose output is `y`, if that was kept.
    fn of(activation: Activation, y: Option<&'a [&'a [E]]>) -> Self {
        match (activation, y) {
            (Activation::Identity, _) => Mask::Identity,
            (Activation::ReLU, None) => Mask::Recomputed,
            (Activation::ReLU, Some(y)) => Mask::Output(y),
        }
    }
}

multiversion! {
    /// First pass: the sums. Where the mask is from the output, dy becomes dz.
    fn block_backward_sums<E>(
        plane: usize,
        mask: Mask<'_, E>,
        channels: &[Channel<E>],
        x: &[&[E]],
        dy: &mut [&mut [E]],
        sums: &mut [GradSums],
    ) {
        for (images, part) in pieces(x.len(), plane) {
            for (i, c) in channels.iter().enumerate() {
                let at = i * plane + part.start..i * plane + part.end;
                let mut lanes = [Lanes::new(); 2];
                for b in images.clone() {
                    ahead(x, b + 1, at.start, at.end);
                    ahead(dy, b + 1, at.start, at.end);
                    let (x, dy) = (&x[b][at.clone()], &mut dy[b][at.clone()]);
                    if let Mask::Output(y) = mask {
                        for (dy, &y) in dy.iter_mut().zip(&y[b][at.clone()]) {
                            *dy = relu_grad(y, *dy);
                        }
                    }
                    let (mean, scale, bias) = (c.mean, c.scale(), c.bias);
                    match mask {
                        Mask::Recomputed => {
                            let dz = |x, dy| relu_grad(affine(x, mean, scale, bias), dy);
                            Lanes::add_with_dot(&mut lanes, x, dy, dz, |x| x - mean);
                        }
                        _ => Lanes::add_with_dot(&mut lanes, x, dy, |_, dy| dy, |x| x - mean),
                    }
                }
                let [dz, dz_x] = lanes.map(Lanes::total);
                if dz.is_finite() && dz_x.is_finite() {
                    sums[i].dz += dz;
                    sums[i].dz_x += dz_x;
                    continue;
                }
                // Too large for the element type.
                for b in images.clone() {
                    for (&x, &dy) in x[b][at.clone()].iter().zip(&dy[b][at.clone()]) {
                        let dz = to_f64(match mask {
                            Mask::Recomputed => relu_grad(affine(x, c.mean, c.scale(), c.bias), dy),
                            _ => dy,
                        });
                        sums[i].dz += dz;
                        sums[i].dz_x += dz * to_f64(x - c.mean);
                    }
                }
            }
        }
    }
}

multiversion! {
    /// Second pass: dx (+)= scale * (dz - mean_dz - (x - mean) * slope), or in dy's place. A mask
    /// from the output has been applied. Each channel's mean |dx| is taken on the way, if asked for.
    fn block_backward_dx<E>(
        plane: usize,
        mask: Mask<'_, E>,
        channels: &[Channel<E>],
        mean_dz: &[E],
        slope: &[E],
        x: &[&[E]],
        dy: &mut [&mut [E]],
        dx: Option<(&mut [&mut [E]], Fill)>,
        importance: Option<&mut [f64]>,
    ) {
        let (mut dx, mut importance, x_count) = (dx, importance, x.len());
        for b in 0..x.len() {
            if let Some((dx, _)) = &dx {
                ahead(dx, b + 1, 0, x[b].len());
            }
            for (i, c) in channels.iter().enumerate() {
                let (mean, scale, bias) = (c.mean, c.scale(), c.bias);
                let (mean_dz, slope) = (mean_dz[i], slope[i]);
                let at = i * plane..(i + 1) * plane;
                let (x, dy) = (&x[b][at.clone()], &mut dy[b][at.clone()]);
                let value = |x: E, dz: E| scale * (dz - mean_dz - (x - mean) * slope);
                let masked = |x, dy| value(x, relu_grad(affine(x, mean, scale, bias), dy));
                let recomputed = matches!(mask, Mask::Recomputed);
                let dx: &[E] = match &mut dx {
                    None => {
                        match recomputed {
                            true => dy.iter_mut().zip(x).for_each(|(dy, &x)| *dy = masked(x, *dy)),
                            false => dy.iter_mut().zip(x).for_each(|(dy, &x)| *dy = value(x, *dy)),
                        }
                        dy
                    }
                    Some((dx, fill)) => {
                        let dx = &mut dx[b][at];
                        match (recomputed, *fill) {
                            (true, Fill::Add) => add_map(dx, x, dy, masked),
                            (true, Fill::Overwrite) => map(dx, x, dy, masked),
                            (false, Fill::Add) => add_map(dx, x, dy, value),
                            (false, Fill::Overwrite) => map(dx, x, dy, value),
                        }
                        dx
                    }
                };
                if let Some(importance) = &mut importance {
                    // While the plane is in cache.
                    importance[i] += sum_of(dx, |v| v.abs()) / (x_count * plane) as f64;
                }
            }
        }
    }
}

/// to = f(a, b), element by element
#[inline(always)]
fn map<E: Element>(to: &mut [E], a: &[E], b: &[E], f: impl Fn(E, E) -> E) {
    for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
        *to = f(a, b);
    }
}

/// to += f(a, b), element by element
#[inline(always)]
fn add_map<E: Element>(to: &mut [E], a: &[E], b: &[E], f: impl Fn(E, E) -> E) {
    for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
        *to += f(a, b);
    }
}

/// The blocks of an optional slice: as many as of the others, each `None` if there is none.
fn optional<T>(blocks: Option<Vec<T>>, count: usize) -> Vec<Option<T>> {
    match blocks {
        Some(blocks) => blocks.into_iter().map(Some).collect(),
        None => (0..count).map(|_| None).collect(),
    }
}

concrete! {
    /// y with the batch's own statistics, which go to `mean` and `inv_std`; the running ones move
    /// towards them. With `ranks` the batch is all ranks' together.
    pub fn train<E: Element>(
        op: &BatchNorm2DOp,
        dims: ImageDims,
        input: Input<&[E]>,
        running: [&mut [E]; 2],
        y: &mut [E],
        saved: [&mut [E]; 2],
        ranks: Option<AllRanks<'_>>,
    ) -> Result<()> {
        let ([running_mean, running_var], [mean, inv_std]) = (running, saved);
        let moments = match ranks {
            None => train_forward(op, dims, input, y, mean, inv_std),
            Some(ranks) => {
                let moments = all_ranks::moments(dims, input.x, ranks)?;
                for (i, moments) in moments.iter().enumerate() {
                    (mean[i], inv_std[i]) = moments.normalizing(op);
                }
                eval_forward(op, dims, input, mean, inv_std, y);
                moments
            }
        };
        let move_to = |running: &mut E, batch: f64| {
            *running = from_f64(to_f64(*running) * (1.0 - op.momentum) + batch * op.momentum);
        };
        for ((rm, rv), m) in running_mean.iter_mut().zip(running_var).zip(moments) {
            move_to(rm, m.mean);
            move_to(rv, m.m2 / (m.count - 1.0));
        }
        Ok(())
    }

    /// y with the running statistics. Writes 1 / sqrt(var + eps) to `inv_std`.
    pub fn eval<E: Element>(
        op: &BatchNorm2DOp,
        dims: ImageDims,
        input: Input<&[E]>,
        running: [&[E]; 2],
        y: &mut [E],
        inv_std: &mut [E],
    ) {
        let [mean, var] = running;
        for (inv_std, &var) in inv_std.iter_mut().zip(var) {
            *inv_std = from_f64(1.0 / (to_f64(var) + op.eps).sqrt());
        }
        eval_forward(op, dims, input, mean, inv_std, y);
    }
}

fn train_forward<E: Element>(
    op: &BatchNorm2DOp,
    dims: ImageDims,
    input: Input<&[E]>,
    y: &mut [E],
    mean: &mut [E],
    inv_std: &mut [E],
) -> Vec<Moments> {
    let Input {
        x,
        residual,
        weight,
        bias,
    } = input;
    let (block, plane) = (dims.block(), dims.plane);
    let xs = dims.blocks(x);
    let ys = dims.blocks_mut(y);
    let residuals = optional(residual.map(|r| dims.blocks(r)), xs.len());
    let mut moments = vec![Moments::default(); dims.channels];
    moments
        .par_chunks_mut(block)
        .zip(mean.par_chunks_mut(block))
        .zip(inv_std.par_chunks_mut(block))
        .zip(weight.par_chunks(block).zip(bias.par_chunks(block)))
        .zip(xs)
        .zip(residuals)
        .zip(ys)
        .for_each(
            |((((((moments, mean), inv_std), (weight, bias)), x), residual), mut y)| {
                block_moments(plane, &x, moments);
                let channels: Vec<_> = (0..moments.len())
                    .map(|i| {
                        (mean[i], inv_std[i]) = moments[i].normalizing(op);
                        Channel {
                            mean: mean[i],
                            inv_std: inv_std[i],
                            weight: weight[i],
                            bias: bias[i],
                        }
                    })
                    .collect();
                let residual = residual.as_deref();
                block_forward(plane, op.activation, &channels, &x, residual, &mut y);
            },
        );
    moments
}

fn eval_forward<E: Element>(
    op: &BatchNorm2DOp,
    dims: ImageDims,
    input: Input<&[E]>,
    mean: &[E],
    inv_std: &[E],
    y: &mut [E],
) {
    let (x, residual) = (input.x, input.residual);
    let channels = per_channel(input.weight, input.bias, mean, inv_std);
    let image = dims.channels * dims.plane;
    if y.is_empty() {
        return;
    }
    // No sums to take: one image is a task.
    y.par_chunks_mut(image).enumerate().for_each(|(b, y)| {
        let x = &x[b * image..][..image];
        let residual = residual.map(|r| &r[b * image..][..image]);
        let residual = residual.as_ref().map(std::slice::from_ref);
        block_forward(
            dims.plane,
            op.activation,
            &channels,
            &[x],
            residual,
            &mut [y],
        );
    });
}

concrete! {
    /// dx (+)= the gradient of x, or in `dy`'s place if there is no `dx`, and with it each channel's
    /// mean |dx| if asked for; the gradients of weight and bias. Where there is a ReLU, `dy` is masked
    /// by it: with a `dx` it is the residual's gradient afterwards. `ranks` as in the forward pass; the
    /// gradients of weight and bias are of this rank's part of the batch alone.
    pub fn backward<E: Element>(
        op: &BatchNorm2DOp,
        statistics: Statistics,
        dims: ImageDims,
        saved: Saved<&[E]>,
        dy: &mut [E],
        dx: Option<(&mut [E], Fill)>,
        importance: Option<&mut [f64]>,
        params: [&mut [E]; 2],
        ranks: Option<AllRanks<'_>>,
    ) -> Result<()> {
        let [dweight, dbias] = params;
        let Saved {
            x,
            y,
            weight,
            bias,
            mean,
            inv_std,
        } = saved;
        let activation = op.activation;
        let (block, plane) = (dims.block(), dims.plane);
        let count = (dims.batch * plane) as f64;
        if x.is_empty() {
            return Ok(());
        }
        let channels = per_channel(weight, bias, mean, inv_std);
        if let Some(ranks) = ranks {
            let params = [dweight, dbias];
            return all_ranks::backward(
                activation, dims, &channels, x, y, dy, dx, importance, params, ranks,
            );
        }
        let (xs, dys) = (dims.blocks(x), dims.blocks_mut(dy));
        let fill = dx.as_ref().map(|(_, fill)| *fill);
        let dxs = optional(dx.map(|(dx, _)| dims.blocks_mut(dx)), xs.len());
        let ys = optional(y.map(|y| dims.blocks(y)), xs.len());
        let importances = importance.map(|i| i.chunks_mut(block).collect());
        let importances = optional(importances, xs.len());
        channels
            .par_chunks(block)
            .zip(dweight.par_chunks_mut(block))
            .zip(dbias.par_chunks_mut(block))
            .zip(xs.into_par_iter().zip(ys))
            .zip(dys.into_par_iter().zip(dxs).zip(importances))
            .for_each(
                |((((channels, dweight), dbias), (x, y)), ((mut dy, mut dx), importance))| {
                    let mask = Mask::of(activation, y.as_deref());
                    let mut sums = vec![GradSums::default(); channels.len()];
                    block_backward_sums(plane, mask, channels, &x, &mut dy, &mut sums);
                    let mut mean_dz = vec![E::zero(); channels.len()];
                    let mut slope = vec![E::zero(); channels.len()];
                    for (i, c) in channels.iter().enumerate() {
                        (dweight[i], dbias[i]) = sums[i].params(c);
                        if statistics == Statistics::Batch {
                            (mean_dz[i], slope[i]) = sums[i].through(c, count);
                        }
                    }
                    let dx = dx.as_deref_mut().zip(fill);
                    block_backward_dx(
                        plane, mask, channels, &mean_dz, &slope, &x, &mut dy, dx, importance,
                    );
                },
            );
        Ok(())
    }
}

fn per_channel<E: Element>(weight: &[E], bias: &[E], mean: &[E], inv_std: &[E]) -> Vec<Channel<E>> {
    (0..weight.len())
        .map(|i| Channel {
            mean: mean[i],
            inv_std: inv_std[i],
            weight: weight[i],
            bias: bias[i],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each channel's mean |dx| for gradients of about `size`, as the only one of several ranks or not.
    fn importance<E: Element>(
        size: f64,
        activation: Activation,
        in_place: bool,
        one_of_ranks: bool,
    ) -> Vec<f64>
    where
        (): train<E> + backward<E>,
    {
        let (batch, channels, plane) = (5, 7, 300);
        let mut sum = |_: &mut [f64]| Ok(());
        let counts = true;
        let op = BatchNorm2DOp {
            activation,
            ..Default::default()
        };
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
        let (bias, mut y, mut mean, mut inv_std) = (
            zeros(channels),
            zeros(len),
            zeros(channels),
            zeros(channels),
        );
        let input = Input {
            x: &x[..],
            residual: None,
            weight: &weight[..],
            bias: &bias[..],
        };
        let running = [&mut zeros(channels)[..], &mut zeros(channels)];
        let saved = [&mut mean[..], &mut inv_std];
        let ranks = one_of_ranks.then_some(AllRanks {
            counts,
            sum: &mut sum,
        });
        train(&op, dims, input, running, &mut y, saved, ranks).unwrap();
        let mut dy: Vec<E> = (0..len)
            .map(|i| from_f64(size * ((i as f64 * 0.9).cos() + 0.5) / 1.5))
            .collect();
        let saved = Saved {
            x: &x[..],
            y: None,
            weight: &weight[..],
            bias: &bias[..],
            mean: &mean[..],
            inv_std: &inv_std[..],
        };
        let mut dx = zeros(len);
        let dx = (!in_place).then_some((&mut dx[..], Fill::Overwrite));
        let mut found = vec![0.0; channels];
        let params = [&mut zeros(channels)[..], &mut zeros(channels)];
        backward(
            &op,
            Statistics::Batch,
            dims,
            saved,
            &mut dy,
            dx,
            Some(&mut found),
            params,
            one_of_ranks.then_some(AllRanks {
                counts,
                sum: &mut sum,
            }),
        )
        .unwrap();
        found
    }

    #[test]
    fn importance_of_large_gradients_is_finite() {
        for activation in [Activation::Identity, Activation::ReLU] {
            for in_place in [false, true] {
                let expected = importance::<f64>(1e38, activation, in_place, false);
                for ranks in [false, true] {
                    let found = importance::<f32>(1e38, activation, in_place, ranks);
                    for (found, expected) in found.iter().zip(&expected) {
                        assert!((found / expected - 1.0).abs() < 1e-5, "{found}, {expected}");
                    }
                }
            }
        }
    }
}
