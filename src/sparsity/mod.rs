//! The method: which output channels of a gradient are kept, and how many.
//!
//! Nothing here knows of tensors; the convolution uses it from its backward hook.

mod adaptive;
mod draw;
mod drop_rate;
pub mod flops;
mod kept_count;
mod largest;
mod masking;
mod schedule;
mod selection;

pub use adaptive::AdaptiveKeep;
pub use draw::Draw;
pub use drop_rate::DropRate;
pub use kept_count::KeptCount;
pub(crate) use largest::largest;
pub use masking::Masking;
pub use schedule::{Curve, Schedule, Span};
pub use selection::Selection;
