//! Networks as types: named structs whose tensors have the names that PyTorch's have.

mod cnn;
mod forward;
mod mlp;
mod module;
mod resnet;
mod sizes;

pub use sizes::{Down, Halves, Same};

/// The types that `dev.build_module` takes.
pub mod builders {
    pub use super::cnn::builder::{Cnn, ConvBlock};
    pub use super::mlp::builder::MLP;
    pub use super::resnet::builder::{
        BasicBlock, Bottleneck, DownBlock, ProjectionBottleneck, ResNet18, ResNet26, ResNet34,
        ResNet50,
    };
}

/// The networks with their tensors.
pub mod modules {
    pub use super::cnn::{Cnn, ConvBlock, Rest};
    pub use super::mlp::MLP;
    pub use super::resnet::{
        BasicBlock, Bottleneck, DownBlock, ProjectionBottleneck, ResNet18, ResNet26, ResNet34,
        ResNet50,
    };
}
