//! Layers: dfdx modules around the operations of this crate.
//!
//! As in dfdx, a layer that has parameters is written twice: the module itself, and a marker type
//! in [`builders`] that says what to build on which device and element type. A layer without
//! parameters is its own marker.

mod batch_norm2d;
mod pool;
mod relu;

/// The layers themselves, with their parameters.
pub mod modules {
    pub use super::batch_norm2d::BatchNorm2D;
    pub use super::pool::{AvgPool2D, GlobalAvgPool, MaxPool2D};
    pub use super::relu::ReLU;
}

/// The types that describe a network before it is built.
pub mod builders {
    pub use super::batch_norm2d::builder::BatchNorm2D;
    pub use super::pool::{AvgPool2D, GlobalAvgPool, MaxPool2D};
    pub use super::relu::ReLU;
}
