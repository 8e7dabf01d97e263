//! The passes of a normalisation over a block of channels.

use std::ops::Range;

use crate::args::batch_norm::{Activation, BatchNorm2DOp};
use crate::args::Fill;
use crate::cpu::element::Element;
use crate::cpu::simd::{
    from_f64, multiversion, prefetch, relu, relu_grad, sum_of, to_f64, Lanes, SUM_RUN,
};

/// The statistics of one channel over `count` elements.
#[derive(Clone, Copy, Default)]
pub(super) struct Moments {
    pub(super) count: f64,
    pub(super) mean: f64,
    /// The sum of (x - mean)^2.
    pub(super) m2: f64,
}

impl Moments {
    /// The statistics of both sets of elements together (Chan, Golub and LeVeque, 1979).
    #[inline(always)]
    pub(super) fn merge(&mut self, count: f64, mean: f64, m2: f64) {
        let total = self.count + count;
        let delta = mean - self.mean;
        self.mean += delta * (count / total);
        self.m2 += m2 + delta * delta * (self.count * count / total);
        self.count = total;
    }

    /// The mean and 1 / sqrt(var + eps).
    pub(super) fn normalizing<E: Element>(&self, op: &BatchNorm2DOp) -> (E, E) {
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
    pub(super) fn block_moments<E>(plane: usize, x: &[&[E]], moments: &mut [Moments]) {
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
pub(super) struct Channel<E> {
    pub(super) mean: E,
    pub(super) inv_std: E,
    pub(super) weight: E,
    pub(super) bias: E,
}

impl<E: Element> Channel<E> {
    #[inline(always)]
    fn scale(&self) -> E {
        self.weight * self.inv_std
    }
}

multiversion! {
    /// y = f(affine(x) + residual)
    pub(super) fn block_forward<E>(
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
pub(super) struct GradSums {
    /// The sum of dz, z being what the activation is applied to.
    pub(super) dz: f64,
    /// The sum of dz * (x - mean).
    pub(super) dz_x: f64,
}

impl GradSums {
    /// Adds to the gradients of weight and bias.
    pub(super) fn add_to<E: Element>(&self, c: &Channel<E>, dweight: &mut E, dbias: &mut E) {
        *dweight += from_f64(self.dz_x * to_f64(c.inv_std));
        *dbias += from_f64(self.dz);
    }

    /// What the statistics of `count` elements hand on to dx: the mean of dz, and the slope over x.
    pub(super) fn through<E: Element>(&self, c: &Channel<E>, count: f64) -> (E, E) {
        let inv_std = to_f64(c.inv_std);
        let slope = self.dz_x * inv_std * inv_std / count;
        (from_f64(self.dz / count), from_f64(slope))
    }
}

/// What lets the gradient through: how dz follows from dy.
#[derive(Clone, Copy)]
pub(super) enum Mask<'a, E> {
    /// dz = dy
    Identity,
    /// From the output before the ReLU, computed again from x.
    Recomputed,
    /// From the output of the ReLU.
    Output(&'a [&'a [E]]),
}

impl<'a, E> Mask<'a, E> {
    /// That of an activation whose output is `y`, if that was kept.
    pub(super) fn of(activation: Activation, y: Option<&'a [&'a [E]]>) -> Self {
        match (activation, y) {
            (Activation::Identity, _) => Mask::Identity,
            (Activation::ReLU, None) => Mask::Recomputed,
            (Activation::ReLU, Some(y)) => Mask::Output(y),
        }
    }
}

multiversion! {
    /// First pass: the sums. Where the mask is from the output, dy becomes dz.
    pub(super) fn block_backward_sums<E>(
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
    pub(super) fn block_backward_dx<E>(
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
