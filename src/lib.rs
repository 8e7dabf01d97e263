//! Convolutional networks with shapes in their types, on [dfdx], whose backward pass is sparse by
//! output channel on a schedule.
//!
//! The method is ssProp, *Energy-Efficient Training for CNNs with Scheduled Sparse Back
//! Propagation* ([arXiv 2408.12561](https://arxiv.org/abs/2408.12561)). A convolution's forward pass
//! is an ordinary one. Its backward pass takes dY of shape (B, C_out, H, W), ranks the output
//! channels by mean |dY|, keeps the best max(floor(keep * C_out), 1), copies them into a shrunk
//! (B, C_kept, H, W) buffer, and computes dX, dW and db from that alone. A
//! [`Schedule`](sparsity::Schedule) says when: the paper drops 80% in every second epoch, which saves
//! 40% of the backward FLOPs.
//!
//! # A network
//!
//! A network is a type made of layers. One whose layers do not fit together does not compile.
//!
//! ```
//! use ssprop::prelude::*;
//!
//! type Net = (
//!     SparseConv2D<3, 16, 3, 1, 1>,  // C_IN, C_OUT, K, STRIDE, PADDING
//!     ReLU,
//!     SparseConv2D<16, 32, 3, 2, 1>, // 32x32 becomes 16x16
//!     ReLU,
//!     GlobalAvgPool,
//!     Linear<32, 10>,
//! );
//!
//! let dev = Cpu::default();
//! let mut net = dev.build_module::<Net, f32>();
//! net.set_drop_rate(DropRate::new(0.8)?);
//! let images: Tensor<Rank4<8, 3, 32, 32>, f32, _> = dev.sample_normal();
//! let logits = net.forward(images.trace(net.alloc_grads()));
//! let _: &Rank2<8, 10> = logits.shape();
//! let grads = logits.square().mean().backward();
//! # let _ = grads;
//! # Ok::<(), ssprop::Error>(())
//! ```
//!
//! # A training loop
//!
//! [`Trainer`](train::Trainer) holds a model, its optimizer and the schedule.
//!
//! ```no_run
//! use ssprop::data::{BatchLoader, Limits, Normalization, Task};
//! use ssprop::prelude::*;
//!
//! # fn main() -> ssprop::Result<()> {
//! let images = Task::Cifar10.load("cifar-10-batches-bin", Limits::default(), 0)?;
//! let normalization = Normalization::of(&images.train)?;
//! let loader = |data| BatchLoader::new(data, 128)?.normalize(normalization.clone());
//! let (train, test) = (loader(&images.train)?.shuffle(0), loader(&images.test)?);
//!
//! ssprop::on_threads(None, || {
//!     let dev = Cpu::default();
//!     let model = dev.build_module::<ResNet18<10>, f32>();
//!     let mut trainer = Trainer::new(model, AdamConfig::adam())?
//!         .with_schedule(Schedule::alternating(DropRate::new(0.8)?))?;
//!     for _ in 0..90 {
//!         let epoch = trainer.train_epoch::<3, 32, 32, 10>(&dev, &train, &mut ())?;
//!         let found = trainer.evaluate::<3, 32, 32, 10>(&dev, &test)?;
//!         println!("loss {:.3}, test accuracy {:.3}", epoch.loss, found.accuracy());
//!     }
//!     trainer.save("resnet18.safetensors", &Default::default())
//! })?
//! # }
//! ```
//!
//! # Where things are
//!
//! [`tutorial`] leads in five chapters from a first network to the use of a trained one.
//!
//! | to | look into |
//! |---|---|
//! | build a network | [`nn`] has the layers, [`models`] the paper's networks, [`prelude`] both |
//! | say what is dropped, and when | [`sparsity`], [`nn::SchedulePlan`], [`ops::SparseBackward`] |
//! | count FLOPs and time | [`sparsity::flops`], [`nn::ModelCost`], [`nn::time_bounds`], [`profile`] |
//! | read images | [`data`] |
//! | train and evaluate a classifier | [`train`], [`optim`] |
//! | train on a loss or with an optimizer of your own | [`train::Objective`], [`optim::Optimizer`] |
//! | train a denoiser and draw with it | [`diffusion`], [`eval`] for the FID |
//! | train on several machines | [`distributed`], with the feature `mpi` |
//! | save and load | [`checkpoint`] |
//! | use what was trained | [`inference`]; [`checkpoint`] for PyTorch and ONNX |
//! | give a run a folder, records, progress and resume | `run` (a feature, on by default) |
//! | write a layer of your own | [`ops`] has the operations, [`shape`] the sizes of their outputs |
//!
//! A step's memory serves the next one; [`free_buffers`] says how much is kept, and frees it.
//! [`on_threads`] runs a program on the threads that the kernels share their work among; results are
//! the same for any number of them.
#![deny(missing_docs)]
#![warn(clippy::undocumented_unsafe_blocks)]
// A tensor's type spells out its shape, element type, device and tape.
#![allow(clippy::type_complexity)]

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;

mod backend;
mod bridge;
pub mod checkpoint;
pub mod data;
pub mod diffusion;
pub mod distributed;
pub mod error;
pub mod eval;
pub mod inference;
pub mod models;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod prelude;
pub mod profile;
#[cfg(feature = "run")]
pub mod run;
pub mod shape;
pub mod sparsity;
mod threads;
pub mod train;
pub mod tutorial;

// The lowest room, a crate of its own: it is optimised where what stands on it is not.
use ssprop_kernels as kernels;

pub use backend::Backend;
#[cfg(feature = "cuda")]
pub use bridge::cuda_device;
pub use bridge::free_buffers;
pub use error::{Error, Result};
#[cfg(feature = "cudnn")]
pub use kernels::cuda::use_cudnn;
#[cfg(feature = "cuda")]
pub use kernels::cuda::{use_tf32, Tf32};
pub use threads::on_threads;

/// What the tests and the benches reach into. No part of the API.
#[doc(hidden)]
pub mod internals {
    pub use crate::backend::*;
    pub use crate::bridge::host::HostAccess;
    pub use crate::bridge::{Buffer, Ranking, Views};
    pub use crate::kernels::args;
    pub use crate::kernels::args::conv2d::{Conv2DOp, Conv2DShape, KeptGrad, OutputGrad};
    pub use crate::kernels::args::Fill;
    pub use crate::kernels::reference;
    pub use crate::ops::conv2d::gradient::BackwardGradient;
    pub use crate::ops::conv2d::shrunk::ShrunkGradient;
}
