//! dfdx's CUDA tensors: where their elements are, and pools of them.

mod address;
pub mod calls;
mod device;
mod host;
mod pools;
mod ranking;
mod start;
mod views;
mod workspace;

pub use device::cuda_device;
pub use pools::free_cuda_buffers;
pub use ranking::{Importance, Kept};
pub use workspace::{has_workspace, with_counters, with_workspace};
