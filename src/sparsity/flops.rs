//! How many floating-point operations a backward pass costs, as the paper counts them.
//!
//! With M = B H_out W_out output elements a channel, B the batch's images (arXiv 2408.12561):
//!
//! | | backward FLOPs | |
//! |---|---|---|
//! | convolution, dense | M (4 N) C_out, N = C_in / groups K K | Eq. 6, without its bias term |
//! | convolution, sparse | keep times that, and (M - 1) C_out for the importance | Eq. 9 |
//! | batch norm | 12 M C + 10 C | Eq. 7 |
//! | dropout | 2 M C | Eq. 8 |
//!
//! That is how Tables 4 and 7 come out to the last printed digit, with `keep` the share 1 - drop
//! rate itself and not the rounded number of channels. Other layers (linear, activations, pooling,
//! group norm) are not counted there, nor here, but for linear layers whose backward pass is sparse
//! ([`linear`]). A multiplication and an addition are two FLOPs.
//!
//! A drop rate saves FLOPs from [`least_useful_drop_rate`] on (Eq. 10; at most 3% where N is 9 and more,
//! Eq. 11). An iteration costs the sum over the layers, and a run the sum over its iterations:
//! [`ModelCost`](crate::nn::ModelCost) adds them up.
//!
//! Counts are `f64`: those of long runs do not fit into a `u64`.

use super::DropRate;

/// Dense backward FLOPs of a convolution, dX and dW together: 4 `m` `n` `c_out` (Eq. 6 without the
/// bias).
///
/// `m` is B H_out W_out, `n` is C_in / groups K K.
pub fn conv2d_dense(m: usize, n: usize, c_out: usize) -> f64 {
    4.0 * m as f64 * n as f64 * c_out as f64
}

/// FLOPs of ranking the channels by mean |dY|: (`m` - 1) `c_out` (in Eq. 9).
pub fn importance(m: usize, c_out: usize) -> f64 {
    m.saturating_sub(1) as f64 * c_out as f64
}

/// Backward FLOPs of a convolution at a drop rate: the dense ones times the kept share, and
/// [`importance`] unless the rate is 0 (Eq. 9).
///
/// ```
/// use ssprop::sparsity::{flops, DropRate};
///
/// let (m, n, c_out) = (128 * 32 * 32, 64 * 9, 64);
/// let dense = flops::conv2d(m, n, c_out, DropRate::DENSE);
/// let sparse = flops::conv2d(m, n, c_out, DropRate::new(0.8)?);
/// assert!(sparse > 0.2 * dense && sparse < 0.201 * dense);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn conv2d(m: usize, n: usize, c_out: usize, drop_rate: DropRate) -> f64 {
    let dense = conv2d_dense(m, n, c_out);
    if drop_rate.is_dense() {
        dense
    } else {
        drop_rate.keep() * dense + importance(m, c_out)
    }
}

/// The drop rate above which a sparse backward pass of a convolution costs less than a dense one
/// (Eq. 10): (`m` - 1) / (4 `m` `n`). At this rate both cost the same, below it the ranking costs
/// more than it saves. 0 for a convolution without outputs or inputs.
///
/// With D for the drop rate, Eq. 9 is less than Eq. 6 where
///
/// ```text
/// (1 - D) 4 M N C_out + (M - 1) C_out < 4 M N C_out
///                             M - 1   < D 4 M N
///                   (M - 1) / (4 M N) < D
/// ```
///
/// (with 4 N + 1 for 4 N where Eq. 6's bias term is counted). It is less than 1 / (4 N): 0.04% for
/// the 3x3 convolution of 64 channels below, and 0.93% for that of 3 channels in a network's stem.
/// It bounds the FLOPs only: what else a sparse pass costs in time is not in it.
///
/// ```
/// use ssprop::sparsity::{flops, DropRate};
///
/// let (m, n, c_out) = (128 * 32 * 32, 64 * 9, 64);
/// let bound = flops::least_useful_drop_rate(m, n);
/// assert!((bound - 0.000434).abs() < 1e-6);
/// let saves = |rate| Ok::<_, ssprop::Error>(
///     flops::conv2d(m, n, c_out, DropRate::new(rate)?) < flops::conv2d_dense(m, n, c_out)
/// );
/// assert!(saves(1.01 * bound)? && !saves(0.99 * bound)?);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn least_useful_drop_rate(m: usize, n: usize) -> f64 {
    if m == 0 || n == 0 {
        return 0.0;
    }
    (m - 1) as f64 / (4.0 * m as f64 * n as f64)
}

/// Backward FLOPs of a linear layer on `batch` rows: those of a 1x1 convolution of 1x1 images,
/// [`conv2d`] with M = `batch` and N = `inputs`. (The paper gives none.)
pub fn linear(batch: usize, inputs: usize, outputs: usize, drop_rate: DropRate) -> f64 {
    conv2d(batch, inputs, outputs, drop_rate)
}

/// Backward FLOPs of a batch norm: 12 `m` `c` + 10 `c` (Eq. 7).
pub fn batch_norm2d(m: usize, c: usize) -> f64 {
    12.0 * m as f64 * c as f64 + 10.0 * c as f64
}

/// Backward FLOPs of a dropout layer: 2 `m` `c` (Eq. 8).
pub fn dropout(m: usize, c: usize) -> f64 {
    2.0 * m as f64 * c as f64
}
