//! Every operation in plain loops, generic over `f32` and `f64`: the oracle of the tests.

pub mod add_relu;
pub mod attention;
pub mod batch_norm;
pub mod conv2d;
pub mod dropout;
pub mod gelu;
pub mod group_norm;
pub mod layer_norm;
pub mod linear;
pub mod pool;
pub mod relu;
pub mod silu;
pub mod upsample;
