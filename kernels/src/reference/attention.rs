//! Attention in plain loops, for the order of channels head by head: what the kernels are held against.

use num_traits::Float;

use crate::args::attention::AttentionOp;

/// The softmax weights P of a head, (N, N): a row for every query.
fn weights<E: Float>(op: &AttentionOp, qkv: &[E]) -> Vec<E> {
    let &AttentionOp {
        depth,
        positions: n,
        ..
    } = op;
    let scale = E::one() / E::from(depth).unwrap().sqrt();
    let (q, k) = (&qkv[..depth * n], &qkv[depth * n..]);
    let mut p = Vec::with_capacity(n * n);
    for t in 0..n {
        let score = |s| {
            let terms = (0..depth).map(|c| q[c * n + t] * k[c * n + s] * scale);
            terms.fold(E::zero(), |a, b| a + b)
        };
        let scores: Vec<E> = (0..n).map(score).collect();
        let largest = scores.iter().fold(E::neg_infinity(), |m, &s| m.max(s));
        let row: Vec<E> = scores.iter().map(|&s| E::exp(s - largest)).collect();
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
        ..
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

/// dqkv of every head of every image, by the chain rule through the products and the softmax.
pub fn backward<E: Float>(op: &AttentionOp, qkv: &[E], dy: &[E]) -> Vec<E> {
    let &AttentionOp {
        depth,
        positions: n,
        ..
    } = op;
    let scale = E::one() / E::from(depth).unwrap().sqrt();
    let len = depth * n;
    let mut dqkv = vec![E::zero(); qkv.len()];
    let heads = qkv.chunks(3 * len).zip(dy.chunks(len));
    for ((qkv, dy), dqkv) in heads.zip(dqkv.chunks_mut(3 * len)) {
        let p = weights(op, qkv);
        let (q, k, v) = (&qkv[..len], &qkv[len..2 * len], &qkv[2 * len..]);
        for t in 0..n {
            let p = &p[t * n..][..n];
            let dp: Vec<E> = (0..n)
                .map(|s| {
                    let terms = (0..depth).map(|c| dy[c * n + t] * v[c * n + s]);
                    terms.fold(E::zero(), |a, b| a + b)
                })
                .collect();
            let terms = p.iter().zip(&dp).map(|(&p, &dp)| p * dp);
            let mean = terms.fold(E::zero(), |a, b| a + b);
            for s in 0..n {
                let ds = p[s] * (dp[s] - mean) * scale;
                for c in 0..depth {
                    let (at_t, at_s) = (c * n + t, c * n + s);
                    dqkv[at_t] = dqkv[at_t] + ds * k[at_s];
                    dqkv[len + at_s] = dqkv[len + at_s] + ds * q[at_t];
                    dqkv[2 * len + at_s] = dqkv[2 * len + at_s] + p[s] * dy[at_t];
                }
            }
        }
    }
    dqkv
}
