//! The CUDA device against the CPU: every operation, and training steps of networks. Runs on a GPU, or
//! without one on the emulator:
//! `SSPROP_CUDA_EMULATOR=1 cargo test --features cuda,ci-check --test cuda`
#![cfg(all(feature = "cuda", any(cuda_emulator, not(feature = "ci-check"))))]

mod convolution;
mod support;

mod add;
mod any_input;
mod attention;
mod batch_norm;
mod bias;
mod conv2d;
mod conv2d_properties;
mod elementwise;
mod errors;
mod group_norm;
mod inference;
mod layer_norm;
mod layers;
mod linear;
mod memory;
mod networks;
mod norms;
mod optim;
mod pool;
mod relu;
mod resnet;
mod select;
mod sgd;
mod steady;
mod training;
mod upload;
