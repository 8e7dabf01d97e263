//! Convolutional networks with shapes in their types, on [dfdx], whose backward pass is sparse by
//! output channel on a schedule.
//!
//! The method is ssProp, *Energy-Efficient Training for CNNs with Scheduled Sparse Back
//! Propagation* ([arXiv 2408.12561](https://arxiv.org/abs/2408.12561)).
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
pub mod error;
pub mod eval;
mod kernels;
pub mod models;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod prelude;
pub mod profile;
pub mod shape;
pub mod sparsity;
mod threads;
pub mod train;

pub use backend::Backend;
pub use bridge::free_buffers;
pub use error::{Error, Result};
pub use threads::on_threads;

/// What the tests and the benches reach into. No part of the API.
#[doc(hidden)]
pub mod internals {
    pub use crate::backend::Conv2DKernel;
    pub use crate::bridge::Buffer;
    pub use crate::kernels::args::conv2d::{Conv2DOp, Conv2DShape, OutputGrad};
    pub use crate::kernels::args::Fill;
    pub use crate::kernels::reference;
    pub use crate::ops::conv2d::{BackwardGradient, ShrunkGradient};
}
