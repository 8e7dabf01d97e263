//! Tensor operations with a backward hook of their own on dfdx's tape.
//!
//! Each operation is a file: the function that users call on tensors, the same on hidden tensors, its
//! forward directly above its backward hook. The kernels that a hook calls are those of the device's
//! backend.
//!
//! A backward hook uses the gradient of its operation's output up: after `backward()`, `Gradients`
//! has those of parameters and of traced inputs, not those of what lies between (as in PyTorch
//! without `retain_grad`). Asking for one of them panics inside dfdx.

pub mod add;
pub mod add_relu;
pub mod attention;
pub mod batch_norm;
pub mod concat;
pub mod conv2d;
pub mod cross_entropy;
pub mod distance;
pub mod dropout;
pub mod gelu;
pub mod group_norm;
pub mod layer_norm;
pub mod linear;
pub mod pool;
pub mod position_embedding;
pub mod relu;
pub mod silu;
mod sparse_backward;
pub mod upsample;

pub use sparse_backward::SparseBackward;
