//! The cross entropy of classes on the CPU, in f64.

use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::element::Element;
use crate::cpu::simd::{from_f64, to_f64};

/// ln(sum e^x) of a row.
fn log_sum_exp<E: Element>(row: &[E]) -> f64 {
    let largest = row.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(to_f64(x)));
    let sum: f64 = row.iter().map(|&x| (to_f64(x) - largest).exp()).sum();
    largest + sum.ln()
}

concrete! {
    /// y (one element) = the mean over rows of -sum target ln(softmax(x))
    pub fn forward<E: Element>(classes: usize, x: &[E], target: &[E], y: &mut [E]) {
        let (mut sum, mut rows) = (0.0, 0);
        let pairs = x.chunks(classes.max(1)).zip(target.chunks(classes.max(1)));
        for (x, target) in pairs {
            let log_sum = log_sum_exp(x);
            let terms = x.iter().zip(target);
            sum += terms
                .map(|(&x, &t)| to_f64(t) * (log_sum - to_f64(x)))
                .sum::<f64>();
            rows += 1;
        }
        y.fill(from_f64(sum / f64::from(rows.max(1))));
    }

    /// dx (+)= dy / rows (softmax(x) sum target - target)
    pub fn backward<E: Element>(
        classes: usize,
        x: &[E],
        target: &[E],
        dy: &[E],
        dx: &mut [E],
        fill: Fill,
    ) {
        let width = classes.max(1);
        let factor =
            dy.iter().map(|&dy| to_f64(dy)).sum::<f64>() / x.len().div_ceil(width).max(1) as f64;
        let rows = x.chunks(width).zip(target.chunks(width));
        for ((x, target), dx) in rows.zip(dx.chunks_mut(width)) {
            let log_sum = log_sum_exp(x);
            let total: f64 = target.iter().map(|&t| to_f64(t)).sum();
            for ((&x, &t), dx) in x.iter().zip(target).zip(dx) {
                let share = (to_f64(x) - log_sum).exp();
                fill.write(dx, from_f64(factor * (share * total - to_f64(t))));
            }
        }
    }
}
