//! Layers, in dfdx's manner: a builder type names the architecture
//! (`dev.build_module::<SparseConv2D<3, 64, 3>, f32>()`), a module type of the same name in
//! [`modules`] holds the tensors.

mod sparse_conv2d;
mod visit_sparse;

pub(crate) use visit_sparse::join;
pub use visit_sparse::{SparseLayer, VisitSparse};

/// The types that `dev.build_module` takes.
pub mod builders {
    pub use super::sparse_conv2d::builder::{BiasedSparseConv2D, SparseConv2D};
}

/// The layers with their tensors.
pub mod modules {
    pub use super::sparse_conv2d::{BiasedSparseConv2D, Quotient, SparseConv2D};
}
