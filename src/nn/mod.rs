//! Layers: dfdx modules around the operations of this crate.
//!
//! As in dfdx, a layer that has parameters is written twice: the module itself, and a marker type
//! in [`builders`] that says what to build on which device and element type
//! (`dev.build_module::<SparseConv2D<3, 64, 3>, f32>()`). A layer without parameters is its own
//! marker.

mod attention;
mod backward_cost;
mod batch_norm2d;
mod bias;
mod dfdx_graph;
mod dfdx_layers;
mod dropout;
mod flatten;
mod gelu;
mod group_norm;
mod layer_norm;
pub(crate) mod plain_layer;
mod plan;
mod pointwise_conv1d;
mod pool;
mod relu;
mod run_cost;
mod silu;
mod sparse_conv2d;
mod sparse_linear;
mod sparse_positionwise_linear;
mod summary;
mod time_bound;
mod timestep_embedding;
mod visit_layers;

pub use backward_cost::{BackwardCost, ImageSize, LayerCost, ModelCost};
pub use dropout::Dropout;
pub use plan::{LayerInfo, LayerSelector, SchedulePlan};
pub use run_cost::{FlopsCost, RunCost, RunSize};
pub use summary::{LayerSummary, ModelSummary};
pub use time_bound::{time_bounds, LayerBound};
pub use timestep_embedding::timestep_embedding;
pub(crate) use visit_layers::join;
pub use visit_layers::{LayerMut, NormLayer, SparseLayer, VisitLayers};

/// The layers themselves, with their parameters.
pub mod modules {
    pub use super::attention::AttentionBlock;
    pub use super::batch_norm2d::BatchNorm2D;
    pub use super::bias::{Bias, NoBias};
    pub use super::flatten::Flatten;
    pub use super::gelu::GELU;
    pub use super::group_norm::GroupNorm;
    pub use super::layer_norm::LayerNorm;
    pub use super::pointwise_conv1d::PointwiseConv1D;
    pub use super::pool::{AvgPool2D, GlobalAvgPool, MaxPool2D};
    pub use super::relu::ReLU;
    pub use super::silu::SiLU;
    pub use super::sparse_conv2d::{BiasedSparseConv2D, Quotient, SparseConv2D};
    pub use super::sparse_linear::{SparseLinear, UnbiasedSparseLinear};
    pub use super::sparse_positionwise_linear::SparsePositionwiseLinear;
    pub use crate::ops::attention::Triple;
}

/// The types that describe a network before it is built.
pub mod builders {
    pub use super::attention::builder::AttentionBlock;
    pub use super::batch_norm2d::builder::BatchNorm2D;
    pub use super::flatten::Flatten;
    pub use super::gelu::GELU;
    pub use super::group_norm::builder::GroupNorm;
    pub use super::layer_norm::builder::LayerNorm;
    pub use super::pointwise_conv1d::builder::PointwiseConv1D;
    pub use super::pool::{AvgPool2D, GlobalAvgPool, MaxPool2D};
    pub use super::relu::ReLU;
    pub use super::silu::SiLU;
    pub use super::sparse_conv2d::builder::{BiasedSparseConv2D, SparseConv2D};
    pub use super::sparse_linear::builder::{SparseLinear, UnbiasedSparseLinear};
    pub use super::sparse_positionwise_linear::builder::SparsePositionwiseLinear;
}
