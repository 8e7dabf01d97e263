//! Networks as types: named structs whose tensors have the names that PyTorch's have.

mod module;
mod resnet;

pub use resnet::Down;

/// The types that `dev.build_module` takes.
pub mod builders {
    pub use super::resnet::builder::{BasicBlock, DownBlock, ResNet18};
}

/// The networks with their tensors.
pub mod modules {
    pub use super::resnet::{BasicBlock, DownBlock, ResNet18};
}
