//! The paper's networks: their tensors, shapes and cost, and PyTorch's numbers.

mod class_conditional;
mod cnn;
mod determinism;
mod dropout;
mod inference;
mod mlp;
mod multi_label;
mod pytorch_training;
mod resnet;
mod tensors;
mod unet;
mod vit;
