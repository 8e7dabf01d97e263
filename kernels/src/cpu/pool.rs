//! Pooling on the CPU: some planes a task, rows of outputs in the inner loop.

use rayon::prelude::*;

use crate::args::pool::Pool2DOp;
use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::blocks::ELEMENTS;
use crate::cpu::element::Element;
use crate::cpu::simd::{from_f64, multiversion, Lanes, SUM_RUN};

impl Pool2DOp {
    fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The number of a tap of the window, as an element.
    #[inline(always)]
    fn tap_number<E: Element>(&self, kh: usize, kw: usize) -> E {
        from_f64((kh * self.kernel + kw) as f64)
    }

    /// The planes of a task.
    fn planes(&self) -> usize {
        (ELEMENTS / self.input_plane().max(1)).max(1)
    }

    /// For row `o` of the outputs (or column, with `axis` 1) and tap `k`: the image's row, if the
    /// tap is not on the padding.
    #[inline(always)]
    fn tap(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        let i = (o * self.stride + k).checked_sub(self.padding)?;
        (i < self.input[axis]).then_some(i)
    }

    /// The output columns for which tap `k` is on the image, and the image's column of the first.
    #[inline(always)]
    fn columns(&self, k: usize) -> (usize, usize, usize) {
        let first = self.padding.saturating_sub(k).div_ceil(self.stride);
        let end = (self.input[1] + self.padding)
            .saturating_sub(k)
            .div_ceil(self.stride)
            .min(self.output[1]);
        if first >= end {
            return (0, 0, 0);
        }
        (first, end, first * self.stride + k - self.padding)
    }
}

/// An image's row with its padding, taken apart by the column's remainder over the stride, so that
/// the inputs of neighbouring outputs lie side by side for every tap of the window.
struct Phases<E> {
    data: Vec<E>,
    len: usize,
}

impl<E: Copy> Phases<E> {
    #[inline(always)]
    fn new(op: &Pool2DOp, padding: E) -> Self {
        let len = (op.input[1] + 2 * op.padding).div_ceil(op.stride);
        Self {
            data: vec![padding; len * op.stride],
            len,
        }
    }

    #[inline(always)]
    fn fill(&mut self, op: &Pool2DOp, row: &[E]) {
        match op.stride {
            1 => self.data[op.padding..][..row.len()].copy_from_slice(row),
            2 => {
                let (even, odd) = self.data.split_at_mut(self.len);
                let (mut at, mut row) = (op.padding / 2, row);
                if op.padding % 2 == 1 {
                    if let Some((&first, rest)) = row.split_first() {
                        odd[at] = first;
                        (at, row) = (at + 1, rest);
                    }
                }
                let (pairs, last) = row.as_chunks::<2>();
                if let Some(&last) = last.first() {
                    even[at + pairs.len()] = last;
                }
                for ((even, odd), pair) in even[at..].iter_mut().zip(&mut odd[at..]).zip(pairs) {
                    *even = pair[0];
                    *odd = pair[1];
                }
            }
            stride => {
                for (column, &x) in (op.padding..).zip(row) {
                    self.data[column % stride * self.len + column / stride] = x;
                }
            }
        }
    }

    /// The inputs that tap `k` of the window meets, for each output of the row.
    #[inline(always)]
    fn tap(&self, op: &Pool2DOp, k: usize) -> &[E] {
        &self.data[k % op.stride * self.len + k / op.stride..][..op.output[1]]
    }
}

multiversion! {
    /// The maxima of some planes; `argmax` is empty or has a place for each output.
    fn block_max_forward<E>(op: &Pool2DOp, x: &[E], y: &mut [E], argmax: &mut [E]) {
        let [_, width] = op.input;
        let mut none = [];
        let mut phases = Phases::new(op, E::neg_infinity());
        let mut argmax = argmax.chunks_exact_mut(op.output_plane());
        let planes = x.chunks_exact(op.input_plane()).zip(y.chunks_exact_mut(op.output_plane()));
        for (x, y) in planes {
            let argmax = argmax.next().unwrap_or(&mut none);
            let mut argmax = argmax.chunks_exact_mut(op.output[1]);
            for (oh, y) in y.chunks_exact_mut(op.output[1]).enumerate() {
                let argmax = argmax.next();
                y.fill(E::neg_infinity());
                let Some(argmax) = argmax else {
                    for kh in 0..op.kernel {
                        let Some(h) = op.tap(0, oh, kh) else { continue };
                        phases.fill(op, &x[h * width..][..width]);
                        for kw in 0..op.kernel {
                            for (y, &x) in y.iter_mut().zip(phases.tap(op, kw)) {
                                *y = if x > *y || x.is_nan() { x } else { *y };
                            }
                        }
                    }
                    continue;
                };
                // A window of nothing but -inf has its first element as its maximum.
                let first = |o: usize| op.padding.saturating_sub(o * op.stride);
                for (ow, at) in argmax.iter_mut().enumerate() {
                    *at = op.tap_number(first(oh), first(ow));
                }
                for kh in 0..op.kernel {
                    let Some(h) = op.tap(0, oh, kh) else { continue };
                    phases.fill(op, &x[h * width..][..width]);
                    for kw in 0..op.kernel {
                        let tap: E = op.tap_number(kh, kw);
                        let out = y.iter_mut().zip(&mut *argmax);
                        for ((y, at), &x) in out.zip(phases.tap(op, kw)) {
                            // On the padding x is -inf, which is never the larger.
                            let larger = x > *y || x.is_nan();
                            *y = if larger { x } else { *y };
                            *at = if larger { tap } else { *at };
                        }
                    }
                }
            }
        }
    }
}

fn block_max_backward<E: Element>(op: &Pool2DOp, argmax: &[E], dy: &[E], dx: &mut [E]) {
    let [_, width] = op.input;
    let planes = argmax
        .chunks_exact(op.output_plane())
        .zip(dy.chunks_exact(op.output_plane()));
    for ((argmax, dy), dx) in planes.zip(dx.chunks_exact_mut(op.input_plane())) {
        let rows = argmax
            .chunks_exact(op.output[1])
            .zip(dy.chunks_exact(op.output[1]));
        for (oh, (argmax, dy)) in rows.enumerate() {
            for (ow, (tap, &dy)) in argmax.iter().zip(dy).enumerate() {
                let tap = tap.to_usize().unwrap_or(0);
                let h = oh * op.stride + tap / op.kernel - op.padding;
                let w = ow * op.stride + tap % op.kernel - op.padding;
                dx[h * width + w] += dy;
            }
        }
    }
}

multiversion! {
    fn block_avg_forward<E>(op: &Pool2DOp, x: &[E], y: &mut [E]) {
        let [_, width] = op.input;
        let share: E = from_f64(1.0 / (op.kernel * op.kernel) as f64);
        let planes = x.chunks_exact(op.input_plane()).zip(y.chunks_exact_mut(op.output_plane()));
        for (x, y) in planes {
            for (oh, y) in y.chunks_exact_mut(op.output[1]).enumerate() {
                y.fill(E::zero());
                for kh in 0..op.kernel {
                    let Some(h) = op.tap(0, oh, kh) else { continue };
                    for kw in 0..op.kernel {
                        let (first, end, column) = op.columns(kw);
                        let x = x[h * width + column..].iter().step_by(op.stride);
                        for (y, &x) in y[first..end].iter_mut().zip(x) {
                            *y += x;
                        }
                    }
                }
                for y in y.iter_mut() {
                    *y *= share;
                }
            }
        }
    }
}

multiversion! {
    fn block_avg_backward<E>(op: &Pool2DOp, dy: &[E], dx: &mut [E]) {
        let [_, width] = op.input;
        let share: E = from_f64(1.0 / (op.kernel * op.kernel) as f64);
        let planes = dy.chunks_exact(op.output_plane()).zip(dx.chunks_exact_mut(op.input_plane()));
        for (dy, dx) in planes {
            for (oh, dy) in dy.chunks_exact(op.output[1]).enumerate() {
                for kh in 0..op.kernel {
                    let Some(h) = op.tap(0, oh, kh) else { continue };
                    for kw in 0..op.kernel {
                        let (first, end, column) = op.columns(kw);
                        let dx = dx[h * width + column..].iter_mut().step_by(op.stride);
                        for (dx, &dy) in dx.zip(&dy[first..end]) {
                            *dx += dy * share;
                        }
                    }
                }
            }
        }
    }
}

multiversion! {
    fn block_global_forward<E>(plane: usize, x: &[E], y: &mut [E]) {
        for (x, y) in x.chunks_exact(plane).zip(y) {
            let mut sum = 0.0;
            for x in x.chunks(SUM_RUN) {
                let mut lanes = Lanes::new();
                lanes.add(x, |x| x);
                sum += lanes.total();
            }
            *y = from_f64(sum / plane as f64);
        }
    }
}

multiversion! {
    fn block_global_backward<E>(plane: usize, dy: &[E], dx: &mut [E]) {
        let share: E = from_f64(1.0 / plane as f64);
        for (dx, &dy) in dx.chunks_exact_mut(plane).zip(dy) {
            let term = dy * share;
            for dx in dx {
                *dx += term;
            }
        }
    }
}

concrete! {
    /// Each window's maximum, and if asked for the number of the tap that met it, kh * K + kw.
    pub fn max_forward<E: Element>(op: &Pool2DOp, x: &[E], y: &mut [E], argmax: Option<&mut [E]>) {
        if y.is_empty() {
            return;
        }
        let (inputs, outputs) = (
            op.planes() * op.input_plane(),
            op.planes() * op.output_plane(),
        );
        let planes = x.par_chunks(inputs).zip(y.par_chunks_mut(outputs));
        match argmax {
            Some(argmax) => planes
                .zip(argmax.par_chunks_mut(outputs))
                .for_each(|((x, y), argmax)| block_max_forward(op, x, y, argmax)),
            None => planes.for_each(|(x, y)| block_max_forward(op, x, y, &mut [])),
        }
    }

    /// dx (+)= each element of dy at its window's maximum
    pub fn max_backward<E: Element>(op: &Pool2DOp, argmax: &[E], dy: &[E], dx: &mut [E], fill: Fill) {
        if dy.is_empty() {
            return;
        }
        let outputs = op.planes() * op.output_plane();
        dx.par_chunks_mut(op.planes() * op.input_plane())
            .zip(dy.par_chunks(outputs).zip(argmax.par_chunks(outputs)))
            .for_each(|(dx, (dy, argmax))| {
                fill.begin(dx);
                block_max_backward(op, argmax, dy, dx);
            });
    }

    /// Each window's mean; padding counts as zeros.
    pub fn avg_forward<E: Element>(op: &Pool2DOp, x: &[E], y: &mut [E]) {
        if !y.is_empty() {
            x.par_chunks(op.planes() * op.input_plane())
                .zip(y.par_chunks_mut(op.planes() * op.output_plane()))
                .for_each(|(x, y)| block_avg_forward(op, x, y));
        }
    }

    /// dx (+)= each element of dy, spread over its window
    pub fn avg_backward<E: Element>(op: &Pool2DOp, dy: &[E], dx: &mut [E], fill: Fill) {
        if !dy.is_empty() {
            dx.par_chunks_mut(op.planes() * op.input_plane())
                .zip(dy.par_chunks(op.planes() * op.output_plane()))
                .for_each(|(dx, dy)| {
                    fill.begin(dx);
                    block_avg_backward(op, dy, dx);
                });
        }
    }

    /// The mean of each plane of `plane` elements.
    pub fn global_avg_forward<E: Element>(plane: usize, x: &[E], y: &mut [E]) {
        let planes = ELEMENTS.div_ceil(plane);
        x.par_chunks(planes * plane)
            .zip(y.par_chunks_mut(planes))
            .for_each(|(x, y)| block_global_forward(plane, x, y));
    }

    /// dx (+)= dy / plane
    pub fn global_avg_backward<E: Element>(plane: usize, dy: &[E], dx: &mut [E], fill: Fill) {
        let planes = ELEMENTS.div_ceil(plane);
        dx.par_chunks_mut(planes * plane)
            .zip(dy.par_chunks(planes))
            .for_each(|(dx, dy)| {
                fill.begin(dx);
                block_global_backward(plane, dy, dx);
            });
    }
}
