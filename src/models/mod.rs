//! Networks as types: named structs whose tensors have the names that PyTorch's have.

mod classify;
mod cnn;
mod forward;
mod mlp;
mod module;
mod resnet;
mod sizes;
mod unet;
mod vit;

pub use sizes::{Down, Halves, Same};

/// The types that `dev.build_module` takes.
pub mod builders {
    pub use super::cnn::builder::{Cnn, ConvBlock};
    pub use super::mlp::builder::MLP;
    pub use super::resnet::builder::{
        BasicBlock, Bottleneck, DownBlock, ProjectionBottleneck, ResNet18, ResNet26, ResNet34,
        ResNet50,
    };
    pub use super::unet::builder::{
        CelebAInputBlocks, CelebAOutputBlocks, CelebAUNet, ClassConditional, Downsample,
        MnistInputBlocks, MnistOutputBlocks, MnistUNet, ProjectionResBlock, ResBlock, Upsample,
    };
    pub use super::vit::builder::{ViT, ViTBlock};
}

/// The networks with their tensors.
pub mod modules {
    pub use super::cnn::{Cnn, ConvBlock, ConvTail};
    pub use super::mlp::MLP;
    pub use super::resnet::{
        BasicBlock, Bottleneck, DownBlock, ProjectionBottleneck, ResNet18, ResNet26, ResNet34,
        ResNet50,
    };
    pub use super::unet::{
        CelebAInputBlocks, CelebAOutputBlocks, CelebAUNet, ClassConditional, Downsample,
        MnistInputBlocks, MnistOutputBlocks, MnistUNet, NoDropout, ProjectionResBlock, ResBlock,
        Upsample,
    };
    pub use super::vit::{Patches, ViT, ViTBlock};
}
