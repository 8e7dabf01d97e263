//! Tensor operations with a backward hook of their own on dfdx's tape.
//!
//! Each operation is a folder: `mod.rs` has the typed function, the trait that a device implements
//! for it, and the tape hook; `cpu.rs` has the kernels, on slices; `reference.rs` has plain loops,
//! generic over `f32` and `f64`, which the tests hold the kernels against.
//!
//! A backward hook uses the gradient of its operation's output up: after `backward()`, `Gradients`
//! has those of parameters and of traced inputs, not those of what lies between (as in PyTorch
//! without `retain_grad`). Asking for one of them panics inside dfdx.

pub mod add;
pub mod add_relu;
pub mod attention;
mod backward;
pub mod batch_norm;
pub(crate) mod blocks;
pub mod concat;
pub mod conv2d;
pub mod dropout;
pub mod group_norm;
pub mod linear;
pub mod pool;
pub mod relu;
pub mod silu;
pub mod upsample;

#[doc(hidden)]
pub use crate::bridge::Buffer;
pub use crate::bridge::Fill;
pub use backward::Backward;
