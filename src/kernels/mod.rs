//! The arithmetic of every operation, on slices and sizes. Nothing here knows of tensors, tapes or
//! networks.
//!
//! [`args`] says what is to be computed, [`cpu`] computes it, and [`reference`] computes it in plain
//! loops, which the tests hold the kernels against.

pub mod args;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod reference;
