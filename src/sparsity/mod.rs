//! The method: which output channels of a gradient are kept, and how many.
//!
//! Nothing here knows of tensors; the convolution uses it from its backward hook.

mod adaptive;
mod draw;
mod drop_rate;
pub mod flops;
mod kept;
mod kept_count;
mod masking;
mod schedule;
mod selection;

pub use adaptive::AdaptiveKeep;
pub use draw::Draw;
pub use drop_rate::DropRate;
pub(crate) use kept::largest;
pub use kept_count::KeptCount;
pub use masking::Masking;
pub use schedule::{Curve, Schedule, Span};
pub use selection::Selection;
