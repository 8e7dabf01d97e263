//! The operations on CUDA: each launches the kernels of its `.cu` file in `kernels/cuda`.

mod adam;
mod add;
mod add_relu;
mod attention;
mod batch_norm;
mod chunks;
mod concat;
mod conv2d;
mod cross_entropy;
mod distance;
mod dropout;
mod gelu;
mod gradient;
mod group_norm;
mod layer_norm;
mod linear;
mod pool;
mod position_embedding;
mod relu;
mod sgd;
mod silu;
mod upsample;

use crate::error::{Error, Result};

/// That memory has as many elements as the kernels will touch.
fn check_len(op: &'static str, what: &'static str, found: usize, expected: usize) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::shape(op, what, expected, found)),
    }
}
