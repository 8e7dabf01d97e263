//! Distances on the CPU. The sum of all elements is taken in f64, by fixed blocks: a running sum of a
//! million f32 is off in its fourth digit.

use rayon::prelude::*;

use crate::args::distance::Distance;
use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::blocks::ELEMENTS;
use crate::cpu::element::Element;
use crate::cpu::simd::{from_f64, multiversion, to_f64, Lanes, SUM_RUN};

multiversion! {
    fn block_sum<E>(distance: Distance, x: &[E], target: &[E]) -> f64 {
        let mut sum = 0.0;
        for (x, target) in x.chunks(SUM_RUN).zip(target.chunks(SUM_RUN)) {
            let mut lanes = Lanes::new();
            match distance {
                Distance::L1 => lanes.add_pairs(x, target, |x, t| (x - t).abs()),
                Distance::L2 => lanes.add_pairs(x, target, |x, t| (x - t) * (x - t)),
            }
            sum += lanes.total();
        }
        sum
    }
}

multiversion! {
    fn block_backward<E>(
        distance: Distance,
        factor: E,
        x: &[E],
        target: &[E],
        dx: &mut [E],
        fill: Fill,
    ) {
        for ((dx, &x), &target) in dx.iter_mut().zip(x).zip(target) {
            let difference = x - target;
            let slope = match distance {
                // 0 where there is no slope, as in PyTorch.
                Distance::L1 if difference == E::zero() => difference,
                Distance::L1 => difference.signum(),
                Distance::L2 => difference + difference,
            };
            fill.write(dx, slope * factor);
        }
    }
}

concrete! {
    /// y (one element) = the mean distance
    pub fn forward<E: Element>(distance: Distance, x: &[E], target: &[E], y: &mut [E]) {
        let blocks: Vec<f64> = x
            .par_chunks(ELEMENTS)
            .zip(target.par_chunks(ELEMENTS))
            .map(|(x, target)| block_sum(distance, x, target))
            .collect();
        let mean = blocks.iter().sum::<f64>() / x.len().max(1) as f64;
        y.fill(from_f64(mean));
    }

    /// dx (+)= dy times the derivative
    pub fn backward<E: Element>(
        distance: Distance,
        x: &[E],
        target: &[E],
        dy: &[E],
        dx: &mut [E],
        fill: Fill,
    ) {
        let dy = dy.first().map_or(0.0, |&dy| to_f64(dy));
        let factor: E = from_f64(dy / x.len().max(1) as f64);
        dx.par_chunks_mut(ELEMENTS)
            .zip(x.par_chunks(ELEMENTS).zip(target.par_chunks(ELEMENTS)))
            .for_each(|(dx, (x, target))| block_backward(distance, factor, x, target, dx, fill));
    }
}
