//! What an operation's kernels are told beside the memory that they read and write: sizes and
//! options, the same for every device.

pub mod adam;
pub mod attention;
pub mod batch_norm;
pub mod concat;
pub mod conv2d;
pub mod distance;
pub mod dropout;
mod fill;
pub mod group_norm;
mod images;
mod kept;
pub mod layer_norm;
pub mod linear;
pub mod pool;
pub mod sgd;
mod window;

pub use fill::Fill;
pub use images::ImageDims;
pub use kept::{check_kept_of, KeptChannels};
pub use window::window_count;
