//! Linear maps on the CPU, as matrix products.
//!
//! Each task computes a block of rows, the whole sum of each element, so that results do not depend
//! on the number of threads. The batch is the products' contiguous side where W is a factor, so
//! that W is read once and never copied whole.

use rayon::prelude::*;

use crate::args::conv2d::OutputGrad;
use crate::args::linear::LinearShape;
use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::conv2d::unfold::product::{product, Left, Product, Right, PAD};
use crate::cpu::element::Element;
use crate::cpu::workspace::Workspace;

/// Rows of a product that a task computes.
const ROWS: usize = 16;

/// `data` (rows, cols) as (cols, rows), its rows padded with zeros to whole vectors; and their
/// length.
fn transposed<E: Element>(data: &[E], rows: usize, cols: usize) -> (Workspace<E>, usize) {
    let row = rows.next_multiple_of(PAD);
    let mut copy = Workspace::take(cols * row);
    copy.par_chunks_mut((ROWS * row).max(1))
        .enumerate()
        .for_each(|(block, copy)| {
            for (r, from) in data.chunks_exact(cols).enumerate() {
                let from = &from[block * ROWS..];
                for (to, &value) in copy.chunks_exact_mut(row).zip(from) {
                    to[r] = value;
                }
            }
            for to in copy.chunks_exact_mut(row) {
                to[rows..].fill(E::zero());
            }
        });
    (copy, row)
}

/// `data` (rows, cols) with its rows padded with zeros to whole vectors, if they are not; and their
/// length.
fn padded<E: Element>(data: &[E], cols: usize) -> (Option<Workspace<E>>, usize) {
    let row = cols.next_multiple_of(PAD);
    if row == cols {
        return (None, row);
    }
    let mut copy = Workspace::zeroed(data.len() / cols * row);
    for (to, from) in copy.chunks_exact_mut(row).zip(data.chunks_exact(cols)) {
        to[..cols].copy_from_slice(from);
    }
    (Some(copy), row)
}

/// C (rows, cols) = A (rows, depth) B (depth, cols), a block of rows a task.
fn multiply<E: Product>(
    [rows, cols, depth]: [usize; 3],
    a: Left<'_, E>,
    b: Right<'_, E>,
) -> Workspace<E> {
    let mut c = Workspace::take(rows * cols);
    c.par_chunks_mut((ROWS * cols).max(1))
        .enumerate()
        .for_each(|(block, c)| {
            let a = Left {
                data: &a.data[block * ROWS * a.row..],
                ..a
            };
            product([c.len() / cols, cols, depth], a, b, c, cols, false);
        });
    c
}

concrete! {
    /// y (B, O) = x (B, I) wT (I, O) + bias
    pub fn forward<E: Product>(shape: &LinearShape, x: &[E], w: &[E], bias: Option<&[E]>, y: &mut [E]) {
        if y.is_empty() {
            return;
        }
        let (columns, row) = transposed(x, shape.batch, shape.inputs);
        let filters = Left {
            data: w,
            row: shape.inputs,
            col: 1,
        };
        let columns = Right {
            data: &columns,
            row,
        };
        // (O, I) x (I, B) -> (O, B)
        let sums = multiply([shape.outputs, row, shape.inputs], filters, columns);
        y.par_chunks_mut(shape.outputs)
            .enumerate()
            .for_each(|(b, y)| {
                for (o, y) in y.iter_mut().enumerate() {
                    *y = sums[o * row + b] + bias.map_or(E::zero(), |bias| bias[o]);
                }
            });
    }

    /// dX (B, I) += dY (B, kept) w (kept, I), or dX = it
    pub fn backward_input<E: Product>(
        shape: &LinearShape,
        w: &[E],
        dy: OutputGrad<'_, &[E]>,
        dx: &mut [E],
        fill: Fill,
    ) {
        if dy.data.is_empty() {
            return fill.begin(dx);
        }
        let (inputs, kept) = (shape.inputs, dy.channels(shape.outputs));
        let gathered = dy.kept.map(|kept| {
            let mut rows = Workspace::take(kept.len() * inputs);
            for (to, &o) in rows.chunks_exact_mut(inputs).zip(&kept[..]) {
                to.copy_from_slice(&w[o * inputs..(o + 1) * inputs]);
            }
            rows
        });
        let filters = gathered.as_deref().unwrap_or(w);
        let (grad, row) = transposed(dy.data, shape.batch, kept);
        let filters = Left {
            data: filters,
            row: 1,
            col: inputs,
        };
        let grad = Right { data: &grad, row };
        // (I, kept) x (kept, B) -> (I, B)
        let sums = multiply([inputs, row, kept], filters, grad);
        dx.par_chunks_mut(inputs).enumerate().for_each(|(b, dx)| {
            for (i, dx) in dx.iter_mut().enumerate() {
                fill.write(dx, sums[i * row + b]);
            }
        });
    }

    /// dW (O, I) += dYT (kept, B) x (B, I), in the rows of kept features
    pub fn backward_weight<E: Product>(
        shape: &LinearShape,
        x: &[E],
        dy: OutputGrad<'_, &[E]>,
        dw: &mut [E],
    ) {
        if dy.data.is_empty() {
            return;
        }
        let (inputs, kept) = (shape.inputs, dy.channels(shape.outputs));
        let (copy, row) = padded(x, inputs);
        let x = copy.as_deref().unwrap_or(x);
        let grad = Left {
            data: dy.data,
            row: 1,
            col: kept,
        };
        // (kept, B) x (B, I) -> (kept, I)
        let sums = multiply([kept, row, shape.batch], grad, Right { data: x, row });
        for (slot, sum) in sums.chunks_exact(row).enumerate() {
            let o = dy.kept.map_or(slot, |kept| kept[slot]);
            for (dw, &sum) in dw[o * inputs..(o + 1) * inputs].iter_mut().zip(sum) {
                *dw += sum;
            }
        }
    }

    /// db (O) += sum of dY (B, kept) over the batch, of kept features
    pub fn backward_bias<E: Element>(dy: OutputGrad<'_, &[E]>, db: &mut [E]) {
        let channels = dy.channels(db.len()).max(1);
        let mut sums = vec![0.0; channels];
        for row in dy.data.chunks_exact(channels) {
            for (sum, g) in sums.iter_mut().zip(row) {
                *sum += g.to_f64().unwrap_or(f64::NAN);
            }
        }
        for (slot, sum) in sums.into_iter().enumerate() {
            db[dy.kept.map_or(slot, |kept| kept[slot])] +=
                crate::cpu::simd::from_f64::<E>(sum);
        }
    }
}
