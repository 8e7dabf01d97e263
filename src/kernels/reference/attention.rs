//! Attention in plain loops: what the kernels are held against.

use num_traits::Float;

use crate::kernels::args::attention::AttentionOp;

/// The softmax weights P of a head, (N, N): a row for every query.
fn weights<E: Float>(op: &AttentionOp, qkv: &[E]) -> Vec<E> {
    let &AttentionOp {
        depth,
        positions: n,
    } = op;
    let scale = E::one() / E::from(depth).unwrap().sqrt();
    let (q, k) = (&qkv[..depth * n], &qkv[depth * n..]);
    let mut p = Vec::with_capacity(n * n);
    for t in 0..n {
        let score = |s| {
            let terms = (0..depth).map(|c| q[c * n + t] * k[c * n + s] * scale);
            terms.fold(E::zero(), |a, b| a + b)
        };
        let row: Vec<E> = (0..n).map(|s| E::exp(score(s))).collect();
        let sum = row.iter().fold(E::zero(), |a, &b| a + b);
        p.extend(row.iter().map(|&e| e / sum));
    }
    p
}

/// y of every head of every image
pub fn forward<E: Float>(op: &AttentionOp, qkv: &[E]) -> Vec<E> {
    let &AttentionOp {
        depth,
        positions: n,
    } = op;
    let mut y = Vec::new();
    for qkv in qkv.chunks(3 * depth * n) {
        let (p, v) = (weights(op, qkv), &qkv[2 * depth * n..]);
        for c in 0..depth {
            for t in 0..n {
                let terms = (0..n).map(|s| p[t * n + s] * v[c * n + s]);
                y.push(terms.fold(E::zero(), |a, b| a + b));
            }
        }
    }
    y
}
