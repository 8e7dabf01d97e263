//! Attention on the CPU: one rayon task per (image, head).
//!
//! Scores are a matrix whose softmax runs down its columns forward (keys down, queries across), so
//! that neighbouring queries lie side by side in every loop, and along its rows backward (queries
//! down, keys across). Every product then has contiguous rows on the right.

use rayon::prelude::*;

use crate::args::attention::AttentionOp;
use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::add::write;
use crate::cpu::conv2d::unfold::product::{product, Left, Product, Right, PAD};
use crate::cpu::element::Element;
use crate::cpu::simd::{dot_of, from_f64, multiversion};

impl AttentionOp {
    /// Positions of a row in the buffers.
    fn row(&self) -> usize {
        self.positions.next_multiple_of(PAD)
    }

    /// Elements of a head's output.
    fn len(&self) -> usize {
        self.depth * self.positions
    }

    fn scale<E: Element>(&self) -> E {
        from_f64(1.0 / (self.depth as f64).sqrt())
    }
}

multiversion! {
    /// The exponentials of the scores less their column's largest, that largest and 1 over the
    /// column's sum.
    fn softmax_columns<E>(scores: &mut [E], largest: &mut [E], inverse: &mut [E]) {
        let width = largest.len();
        largest.fill(E::neg_infinity());
        for row in scores.chunks_exact(width) {
            for (m, &s) in largest.iter_mut().zip(row) {
                *m = if s > *m { s } else { *m };
            }
        }
        inverse.fill(E::zero());
        for row in scores.chunks_exact_mut(width) {
            for ((s, &m), sum) in row.iter_mut().zip(&*largest).zip(&mut *inverse) {
                let e = (*s - m).vector_exp();
                *s = e;
                *sum += e;
            }
        }
        for sum in inverse {
            *sum = E::one() / *sum;
        }
    }
}

multiversion! {
    /// Rows of scores become the weights P, rows of dP become dS = P (dP - sum(P dP)). The rows are
    /// `width` apart; beyond their first `positions` elements is padding.
    ///
    /// Where one weight is almost 1, dP and the sum are almost equal there and the rest of dS is
    /// small: the sum has to come from the very numbers that it is taken from. So it is taken once
    /// roughly, and once more of what is left.
    fn softmax_rows_backward<E>(
        largest: &[E],
        inverse: &[E],
        scores: &mut [E],
        gradient: &mut [E],
        positions: usize,
        width: usize,
    ) {
        let rows = scores.chunks_exact_mut(width).zip(gradient.chunks_exact_mut(width));
        for ((scores, gradient), (&largest, &inverse)) in rows.zip(largest.iter().zip(inverse)) {
            for s in scores.iter_mut() {
                *s = (*s - largest).vector_exp() * inverse;
            }
            let (p, g) = (&scores[..positions], &gradient[..positions]);
            let rough: E = from_f64(dot_of(g, p, |g| g));
            let rest: E = from_f64(dot_of(g, p, |g| g - rough));
            for (g, &p) in gradient.iter_mut().zip(&*scores) {
                *g = p * (*g - rough - rest);
            }
        }
    }
}

/// Copies rows of `n` elements to the beginnings of rows of `row` elements.
fn pad<E: Element>(n: usize, row: usize, from: &[E], to: &mut [E]) {
    for (to, from) in to.chunks_exact_mut(row).zip(from.chunks_exact(n)) {
        to[..n].copy_from_slice(from);
    }
}

/// What a task works with. Rows are padded where nothing else is said, and what pads `a`, `b` and
/// `keys` stays 0. The second half is empty in the forward pass.
struct Scratch<E> {
    /// (N, N): scores, then weights.
    scores: Vec<E>,
    /// (d, N): scaled queries forward, keys backward.
    a: Vec<E>,
    /// (d, N), or backward (N, d) too.
    out: Vec<E>,
    /// (N) each, padded: the largest score of a query, 1 over its sum. Forward only.
    columns: [Vec<E>; 2],

    /// (N, N): dP, then dS.
    gradient: Vec<E>,
    /// (d, N): values.
    b: Vec<E>,
    /// (d, N), not padded: scaled queries.
    q: Vec<E>,
    /// (N, d): scaled keys.
    keys: Vec<E>,
}

impl<E: Element> Scratch<E> {
    fn forward(op: &AttentionOp) -> Self {
        let zeros = |len| vec![E::zero(); len];
        let (n, row) = (op.positions, op.row());
        Self {
            scores: zeros(n * row),
            gradient: zeros(0),
            a: zeros(op.depth * row),
            b: zeros(0),
            out: zeros(op.depth * row),
            q: zeros(0),
            keys: zeros(0),
            columns: [zeros(row), zeros(row)],
        }
    }

    fn backward(op: &AttentionOp) -> Self {
        let zeros = |len| vec![E::zero(); len];
        let (n, row) = (op.positions, op.row());
        let depth = op.depth.next_multiple_of(PAD);
        Self {
            gradient: zeros(n * row),
            b: zeros(op.depth * row),
            out: zeros((op.depth * row).max(n * depth)),
            q: zeros(op.len()),
            keys: zeros(n * depth),
            columns: [zeros(0), zeros(0)],
            ..Self::forward(op)
        }
    }
}

/// A head's queries, keys and values, (d, N) each.
fn of_head<'a, E>(op: &AttentionOp, qkv: &'a [E], head: usize) -> [&'a [E]; 3] {
    op.of_head(head).map(|at| &qkv[at * op.len()..][..op.len()])
}

/// Those of all heads, to write.
fn of_heads_mut<'a, E>(op: &AttentionOp, qkv: &'a mut [E]) -> Vec<[&'a mut [E]; 3]> {
    let mut parts: Vec<_> = qkv.chunks_exact_mut(op.len().max(1)).collect();
    let heads = 0..parts.len() / 3;
    heads
        .map(|head| op.of_head(head).map(|at| std::mem::take(&mut parts[at])))
        .collect()
}

fn head_forward<E: Product>(
    op: &AttentionOp,
    [q, k, v]: [&[E]; 3],
    y: &mut [E],
    statistics: &mut [E],
    scratch: &mut Scratch<E>,
) {
    let (d, n, row, scale) = (op.depth, op.positions, op.row(), op.scale::<E>());
    let Scratch {
        scores,
        a,
        out,
        columns: [largest, inverse],
        ..
    } = scratch;

    pad(n, row, q, a);
    a.iter_mut().for_each(|q| *q *= scale);
    // (N keys, d) x (d, N queries)
    let keys = Left {
        data: k,
        row: 1,
        col: n,
    };
    product(
        [n, row, d],
        keys,
        Right { data: a, row },
        scores,
        row,
        false,
    );
    softmax_columns(scores, largest, inverse);
    // (d, N keys) x (N keys, N queries)
    let values = Left {
        data: v,
        row: n,
        col: 1,
    };
    product(
        [d, row, n],
        values,
        Right { data: scores, row },
        out,
        row,
        false,
    );
    for (y, out) in y.chunks_exact_mut(n).zip(out.chunks_exact(row)) {
        for ((y, &out), &inverse) in y.iter_mut().zip(out).zip(&*inverse) {
            *y = out * inverse;
        }
    }
    let (to_largest, to_inverse) = statistics.split_at_mut(n);
    to_largest.copy_from_slice(&largest[..n]);
    to_inverse.copy_from_slice(&inverse[..n]);
}

fn head_backward<E: Product>(
    op: &AttentionOp,
    [q, k, v]: [&[E]; 3],
    statistics: &[E],
    dy: &[E],
    [dq, dk, dv]: [&mut [E]; 3],
    fill: Fill,
    scratch: &mut Scratch<E>,
) {
    let (d, n, row, scale) = (op.depth, op.positions, op.row(), op.scale::<E>());
    let d_row = d.next_multiple_of(PAD);
    let Scratch {
        scores,
        gradient,
        a,
        b,
        out,
        q: scaled,
        keys,
        ..
    } = scratch;

    for (to, &q) in scaled.iter_mut().zip(q) {
        *to = q * scale;
    }
    pad(n, row, k, a);
    pad(n, row, v, b);
    // (N queries, d) x (d, N keys): S and dP
    let queries = Left {
        data: scaled,
        row: 1,
        col: n,
    };
    product(
        [n, row, d],
        queries,
        Right { data: a, row },
        scores,
        row,
        false,
    );
    let dys = Left {
        data: dy,
        row: 1,
        col: n,
    };
    product(
        [n, row, d],
        dys,
        Right { data: b, row },
        gradient,
        row,
        false,
    );
    let (largest, inverse) = statistics.split_at(n);
    softmax_rows_backward(largest, inverse, scores, gradient, n, row);

    let rows = |out: &[E], to: &mut [E]| {
        for (to, out) in to.chunks_exact_mut(n).zip(out.chunks_exact(row)) {
            write(&out[..n], to, fill);
        }
    };
    // (d, N queries) x (N queries, N keys): dv = dy P, dk = q dS
    let dys = Left {
        data: dy,
        row: n,
        col: 1,
    };
    product(
        [d, row, n],
        dys,
        Right { data: scores, row },
        out,
        row,
        false,
    );
    rows(out, dv);
    let queries = Left {
        data: scaled,
        row: n,
        col: 1,
    };
    product(
        [d, row, n],
        queries,
        Right {
            data: gradient,
            row,
        },
        out,
        row,
        false,
    );
    rows(out, dk);
    // (N queries, N keys) x (N keys, d): dq, transposed. The keys that are padding stay out.
    for (s, to) in keys.chunks_exact_mut(d_row).enumerate() {
        for (c, to) in to[..d].iter_mut().enumerate() {
            *to = k[c * n + s] * scale;
        }
    }
    let gradient = Left {
        data: gradient,
        row,
        col: 1,
    };
    product(
        [n, d_row, n],
        gradient,
        Right {
            data: keys,
            row: d_row,
        },
        out,
        d_row,
        false,
    );
    for (c, dq) in dq.chunks_exact_mut(n).enumerate() {
        for (dq, out) in dq.iter_mut().zip(out.chunks_exact(d_row)) {
            match fill {
                Fill::Add => *dq += out[c],
                Fill::Overwrite => *dq = out[c],
            }
        }
    }
}

concrete! {
    /// y, and for each head 2 N numbers: the largest score of every query, and 1 over the sum of the
    /// exponentials of its scores less that.
    pub fn forward<E: Product>(op: &AttentionOp, qkv: &[E], y: &mut [E], statistics: &mut [E]) {
        y.par_chunks_mut(op.len().max(1))
            .zip(statistics.par_chunks_mut((2 * op.positions).max(1)))
            .enumerate()
            .for_each_init(
                || Scratch::forward(op),
                |scratch, (head, (y, statistics))| {
                    head_forward(op, of_head(op, qkv, head), y, statistics, scratch);
                },
            );
    }

    /// dqkv (+)= the gradient for dy. The weights are computed again from the statistics. (The output
    /// would give sum(P dP) as sum(dy y), but not precisely enough where the softmax is saturated.)
    pub fn backward<E: Product>(
        op: &AttentionOp,
        qkv: &[E],
        statistics: &[E],
        dy: &[E],
        dqkv: &mut [E],
        fill: Fill,
    ) {
        of_heads_mut(op, dqkv)
            .into_par_iter()
            .zip(statistics.par_chunks((2 * op.positions).max(1)))
            .zip(dy.par_chunks(op.len().max(1)))
            .enumerate()
            .for_each_init(
                || Scratch::backward(op),
                |scratch, (head, ((dqkv, statistics), dy))| {
                    let qkv = of_head(op, qkv, head);
                    head_backward(op, qkv, statistics, dy, dqkv, fill, scratch);
                },
            );
    }
}
