//! Every work-around for what dfdx keeps to itself, each with its reason.
//!
//! dfdx 0.13 hides a tensor's storage, zeroes what it allocates on one thread, gives no buffer of a
//! freed tensor away, and cannot say whether a gradient has just been made. So: [`storage`] makes
//! slices of tensors, [`pool`] keeps freed memory for the next operation ([`buffer`] and
//! [`pooled_tensor`] own what it hands out), and [`hidden`] carries a gradient from an operation's
//! backward hook to that of the operation before it ([`grad`]). [`upload`] makes tensors of values.

pub mod buffer;
pub mod grad;
pub mod hidden;
pub mod pool;
pub mod pooled_tensor;
pub mod storage;
pub mod upload;

pub use buffer::Buffer;
pub use grad::{Fill, GradSlot, GradTarget};
pub use hidden::{Hidden, Input};
pub use pool::{free_buffers, Pooling};
pub use pooled_tensor::PooledTensor;
pub use upload::upload;
