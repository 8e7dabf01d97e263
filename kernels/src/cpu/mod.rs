//! The kernels for the CPU. Work is cut into tasks by the sizes alone, so that results do not depend
//! on the number of threads.

pub mod adam;
pub mod add;
pub mod add_relu;
pub mod attention;
pub mod batch_norm;
pub mod blocks;
pub mod concat;
pub mod conv2d;
pub mod cross_entropy;
pub mod distance;
pub mod dropout;
pub mod element;
pub mod gelu;
pub mod gradient;
pub mod group_norm;
pub mod layer_norm;
pub mod linear;
pub mod pool;
pub mod position_embedding;
pub mod relu;
pub mod sgd;
pub mod silu;
pub mod simd;
pub mod upsample;
pub mod workspace;
