//! Batch normalisation on the CPU: each task takes a block of channels through all passes, so that
//! the passes after the first find the block in the core's cache.

mod all_ranks;
mod block;

use rayon::prelude::*;

use self::block::{
    block_backward_dx, block_backward_sums, block_forward, block_moments, Channel, GradSums, Mask,
    Moments,
};
use crate::args::batch_norm::{AllRanks, BatchNorm2DOp, Input, Saved, Statistics};
use crate::args::Fill;
use crate::args::ImageDims;
use crate::concrete::concrete;
use crate::cpu::blocks::optional;
use crate::cpu::element::Element;
use crate::cpu::simd::{from_f64, to_f64};
use crate::error::Result;

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
                for (i, moments) in moments.iter().enumerate() {
                    (mean[i], inv_std[i]) = moments.normalizing(op);
                }
                let channels = per_channel(weight, bias, mean, inv_std);
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
    /// mean |dx| if asked for; `params` += the gradients of weight and bias. Where there is a ReLU, `dy` is masked
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
        let importances = optional(importance.map(|i| i.chunks_mut(block)), xs.len());
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
                        sums[i].add_to(c, &mut dweight[i], &mut dbias[i]);
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
    use crate::args::batch_norm::Activation;

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
