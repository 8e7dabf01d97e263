//! The method: which output channels of a gradient are kept, and how many.
//!
//! Nothing here knows of tensors; the convolution uses it from its backward hook.

mod drop_rate;
pub mod flops;
mod kept;
mod schedule;

pub use drop_rate::DropRate;
pub use kept::KeptChannels;
pub use schedule::{Curve, Schedule, Span};
