//! Convolution of any geometry, `f32`, as matrix products whose factors are packed straight from
//! the planes: panels of a few hundred pixels that stay in the L2 cache, without columns
//! in between.
//!
//! - forward: y (C_out, P) = W (C_out, F) * windows (F, P), F = C_in / groups * K * K;
//! - dX: each phase (C_in / groups, P) = Wt (C_in / groups, kept * taps) * windows of dY;
//! - dW: dWt (F, kept) = windows (F, P) * dYt (P, kept).
//!
//! Blocks of images do not depend on the number of threads, nor does the order of sums.

mod blocks;
mod forward;
mod input;
mod interleave;
mod kernel;
mod packed;
mod panels;
mod table;
mod transposed;
mod weight;
mod windows;
mod write;

pub use forward::forward;
pub use input::backward_input;
pub use weight::backward_weight;

#[cfg(test)]
mod tests;
