//! Residual networks for small images: 3x3 stem, no pooling before the blocks.
//!
//! He et al., *Deep Residual Learning for Image Recognition* (arXiv 1512.03385); the sizes are those
//! of arXiv 2408.12561, Tables 4 to 7. Tensors have the names of the usual PyTorch implementations
//! for CIFAR (`layer2.0.shortcut.1.running_var`).
//!
//! | | blocks of layer1 to layer4 | |
//! |---|---|---|
//! | ResNet-18 | 2, 2, 2, 2 | basic |
//! | ResNet-26 | 2, 3, 5, 2 | basic |
//! | ResNet-34 | 3, 4, 6, 3 | basic |
//! | ResNet-50 | 3, 4, 6, 3 | bottleneck |
//!
//! [`set_dropout`](crate::nn::VisitLayers::set_dropout) puts dropout after every norm, those of the
//! stem and of the shortcuts too: that is what Table 6 counts. In a block it comes before the sum
//! with the shortcut.

mod basic;
mod bottleneck;
mod networks;

pub use basic::{BasicBlock, DownBlock};
pub use bottleneck::{Bottleneck, ProjectionBottleneck};
pub use networks::{ResNet18, ResNet26, ResNet34, ResNet50};

/// The architectures.
pub mod builder {
    pub use super::basic::builder::{BasicBlock, DownBlock};
    pub use super::bottleneck::builder::{Bottleneck, ProjectionBottleneck};
    pub use super::networks::builder::{ResNet18, ResNet26, ResNet34, ResNet50};
}
