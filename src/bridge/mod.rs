//! Every work-around for what dfdx keeps to itself, each with its reason.
//!
//! dfdx 0.13 hides a tensor's storage, zeroes what it allocates on one thread, gives no buffer of a
//! freed tensor away, and cannot say whether a gradient has just been made. So: [`view`] and
//! [`storage`] make slices of tensors, [`pool`] keeps freed memory for the next operation ([`buffer`] and
//! [`pooled_tensor`] own what it hands out), and [`hidden`] carries a gradient from an operation's
//! backward hook to that of the operation before it ([`grad`]). [`contiguous`](mod@contiguous) copies
//! views, [`ranking`] says where a device has the choice of channels. [`upload`] makes tensors of values, and [`host`] lets the host see a device's memory.
//! [`parameter`] leads to a parameter's gradient, [`parameter_pair`] to those of two at once, and with [`exchange`] the other ranks of a training learn of it.
//! [`tensors`] walks through a module's tensors, and [`path`] has patterns of their paths. `cuda` has the same for CUDA devices.

pub mod buffer;
mod contiguous;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod device_error;
pub mod exchange;
pub mod grad;
pub mod hidden;
pub mod host;
mod parameter;
mod parameter_pair;
pub mod path;
pub mod pool;
pub mod pooled_tensor;
pub mod ranking;
pub mod storage;
pub mod tensors;
pub mod unneeded;
pub mod upload;
pub mod view;

pub use crate::kernels::args::Fill;
pub use buffer::Buffer;
pub use contiguous::{contiguous, contiguous_option};
#[cfg(feature = "cuda")]
pub use cuda::{cuda_device, Kept};
pub use device_error::DeviceError;
pub use grad::{GradSlot, GradTarget};
pub use hidden::{Hidden, Input};
pub use parameter::Parameter;
pub use parameter_pair::ParameterPair;
pub use pool::{free_buffers, Pooling};
pub use pooled_tensor::PooledTensor;
pub use ranking::Ranking;
pub use upload::{upload, values};
pub use view::{View, ViewMut, Views};
