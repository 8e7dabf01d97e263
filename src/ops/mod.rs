//! Tensor operations with a backward hook of their own on dfdx's tape.
//!
//! Each operation is a folder: `mod.rs` has the typed function, the trait that a device implements
//! for it, and the tape hook; `cpu.rs` has the kernels, on slices; `reference.rs` has plain loops,
//! generic over `f32` and `f64`, which the tests hold the kernels against.
//!
//! A backward hook uses the gradient of its operation's output up: after `backward()`, `Gradients`
//! has those of parameters and of traced inputs, not those of what lies between (as in PyTorch
//! without `retain_grad`). Asking for one of them panics inside dfdx.

use dfdx::tensor::{Gradients, Storage};

/// Takes the gradient of `$ghost` out of `$grads` and leaves an empty one.
///
/// For the output of an operation, in its backward hook: nobody needs it afterwards, and owning it
/// lets the hook write the input's gradient at the same time and frees the memory early. (A macro,
/// since the type of a ghost tensor cannot be named outside dfdx.)
macro_rules! take_grad {
    ($dev:expr, $grads:expr, $ghost:expr) => {{
        let empty = $crate::ops::empty_grad(&*$grads, &$dev)?;
        std::mem::replace($grads.get_or_alloc_mut($ghost)?, empty)
    }};
}

/// An empty gradient buffer. (`grads` says of which element type.)
pub(crate) fn empty_grad<E, D: Storage<E>>(
    _grads: &Gradients<E, D>,
    dev: &D,
) -> Result<D::Vec, D::Err> {
    dev.try_alloc_len(0)
}

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
pub(crate) mod held;
pub mod linear;
pub(crate) mod linked;
pub mod pool;
pub mod relu;
pub mod silu;
pub mod upsample;

pub use backward::Backward;
pub use linked::Fill;
