//! The arithmetic of every operation of `ssprop`, on slices and sizes. Nothing here knows of tensors,
//! tapes or networks; programs use it through `ssprop`.
//!
//! [`args`] says what is to be computed, [`cpu`] computes it, and [`mod@reference`] computes it in plain
//! loops, which the tests hold the kernels against.
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod args;
mod concrete;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod error;
pub mod reference;

pub use error::{Error, Result};
