//! The passes of a normalisation over the batches of all ranks, one after the other: between them the
//! ranks add up what they have found.

use rayon::prelude::*;

use super::block::{
    block_backward_dx, block_backward_sums, block_moments, Channel, GradSums, Mask, Moments,
};
use crate::args::batch_norm::{Activation, AllRanks};
use crate::args::{Fill, ImageDims};
use crate::cpu::blocks::optional;
use crate::cpu::element::Element;
use crate::error::{Error, Result};

/// The statistics of each channel of x over all ranks' elements.
pub(super) fn moments<E: Element>(
    dims: ImageDims,
    x: &[E],
    ranks: AllRanks<'_>,
) -> Result<Vec<Moments>> {
    let mut moments = vec![Moments::default(); dims.channels];
    if ranks.counts {
        let blocks = moments.par_chunks_mut(dims.block()).zip(dims.blocks(x));
        blocks.for_each(|(moments, x)| block_moments(dims.plane, &x, moments));
    }
    // The mean first: the squares about it do not cancel, however large it is.
    let count = moments.first().map_or(0.0, |m| m.count);
    let mut sums = vec![count];
    sums.extend(moments.iter().map(|m| m.count * m.mean));
    (ranks.sum)(&mut sums)?;
    let (count, sums) = (sums[0], &mut sums[1..]);
    if count < 2.0 {
        let what = "elements of a channel on all ranks in training";
        return Err(Error::shape("batch_norm2d", what, "at least 2", count));
    }
    for (m, sum) in moments.iter_mut().zip(&mut *sums) {
        let mean = *sum / count;
        *sum = m.m2 + m.count * (m.mean - mean) * (m.mean - mean);
        m.mean = mean;
    }
    (ranks.sum)(sums)?;
    for (m, &m2) in moments.iter_mut().zip(&*sums) {
        (m.count, m.m2) = (count, m2);
    }
    Ok(moments)
}

/// [`backward`](super::backward) through the statistics of all ranks' elements. The gradients of weight
/// and bias are this rank's part of them.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward<E: Element>(
    activation: Activation,
    dims: ImageDims,
    channels: &[Channel<E>],
    x: &[E],
    y: Option<&[E]>,
    dy: &mut [E],
    dx: Option<(&mut [E], Fill)>,
    importance: Option<&mut [f64]>,
    [dweight, dbias]: [&mut [E]; 2],
    ranks: AllRanks<'_>,
) -> Result<()> {
    let (block, plane) = (dims.block(), dims.plane);
    let (xs, mut dys) = (dims.blocks(x), dims.blocks_mut(dy));
    let ys = optional(y.map(|y| dims.blocks(y)), xs.len());
    let mut sums = vec![GradSums::default(); channels.len()];
    let blocks = channels.par_chunks(block).zip(sums.par_chunks_mut(block));
    blocks.zip(xs.par_iter().zip(&ys).zip(&mut dys)).for_each(
        |((channels, sums), ((x, y), dy))| {
            let mask = Mask::of(activation, y.as_deref());
            block_backward_sums(plane, mask, channels, x, dy, sums);
        },
    );

    let own = if ranks.counts { dims.batch * plane } else { 0 };
    let mut all = vec![own as f64];
    for (i, (c, sums)) in channels.iter().zip(&sums).enumerate() {
        sums.add_to(c, &mut dweight[i], &mut dbias[i]);
        all.extend([sums.dz, sums.dz_x]);
    }
    (ranks.sum)(&mut all)?;
    let (count, all) = (all[0], &all[1..]);
    for (sums, all) in sums.iter_mut().zip(all.chunks_exact(2)) {
        // An image that counts elsewhere has no gradient, not that through the statistics either.
        (sums.dz, sums.dz_x) = match ranks.counts {
            true => (all[0], all[1]),
            false => (0.0, 0.0),
        };
    }

    let fill = dx.as_ref().map(|(_, fill)| *fill);
    let dxs = optional(dx.map(|(dx, _)| dims.blocks_mut(dx)), xs.len());
    let importances = optional(importance.map(|i| i.chunks_mut(block)), xs.len());
    let blocks = channels.par_chunks(block).zip(sums.par_chunks(block));
    blocks
        .zip(xs.par_iter().zip(&ys))
        .zip(dys.into_par_iter().zip(dxs).zip(importances))
        .for_each(
            |(((channels, sums), (x, y)), ((mut dy, mut dx), importance))| {
                let mask = Mask::of(activation, y.as_deref());
                let through = channels
                    .iter()
                    .zip(sums)
                    .map(|(c, sums)| sums.through(c, count));
                let (mean_dz, slope): (Vec<_>, Vec<_>) = through.unzip();
                let dx = dx.as_deref_mut().zip(fill);
                block_backward_dx(
                    plane, mask, channels, &mean_dz, &slope, x, &mut dy, dx, importance,
                );
            },
        );
    Ok(())
}
