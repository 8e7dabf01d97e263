//! Networks as types: named structs whose tensors have the names that PyTorch's have.

mod mlp;
mod module;
mod resnet;

pub use resnet::{Down, Same};

/// The types that `dev.build_module` takes.
pub mod builders {
    pub use super::mlp::builder::MLP;
    pub use super::resnet::builder::{
        BasicBlock, Bottleneck, DownBlock, ProjectionBottleneck, ResNet18, ResNet26, ResNet34,
        ResNet50,
    };
}

/// The networks with their tensors.
pub mod modules {
    pub use super::mlp::MLP;
    pub use super::resnet::{
        BasicBlock, Bottleneck, DownBlock, ProjectionBottleneck, ResNet18, ResNet26, ResNet34,
        ResNet50,
    };
}
