//! What a device has to offer: for each operation a trait of kernels over views of its memory.
//! [`Backend`] is their sum.

mod adam;
mod add;
mod add_relu;
mod attention;
mod batch_norm;
mod concat;
mod conv2d;
mod cross_entropy;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
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

use dfdx::dtypes::Dtype;
use dfdx::tensor::Synchronize;
use dfdx::tensor_ops::Device;

pub use adam::AdamKernel;
pub use add::AddKernel;
pub use add_relu::AddReLUKernel;
pub use attention::AttentionKernel;
pub use batch_norm::BatchNorm2DKernel;
pub use concat::ConcatKernel;
pub use conv2d::Conv2DKernel;
pub use cross_entropy::CrossEntropyKernel;
pub use distance::DistanceKernel;
pub use dropout::DropoutKernel;
pub use gelu::GELUKernel;
pub use gradient::GradientKernel;
pub use group_norm::GroupNormKernel;
pub use layer_norm::LayerNormKernel;
pub use linear::LinearKernel;
pub use pool::Pool2DKernel;
pub use position_embedding::PositionEmbeddingKernel;
pub use relu::ReLUKernel;
pub use sgd::SgdKernel;
pub use silu::SiLUKernel;
pub use upsample::UpsampleKernel;

use crate::bridge::grad::Accumulate;
use crate::bridge::host::HostAccess;
use crate::bridge::DeviceError;

/// Implements a trait of kernels for the CPU, for `f32` and `f64`: for each element type by itself,
/// so that the kernels are compiled once, in this crate. The body calls the element type `E`.
macro_rules! on_cpu {
    ($Trait:ident { $($body:tt)* }) => {
        const _: () = {
            type E = f32;
            impl $Trait<E> for Cpu { $($body)* }
        };
        const _: () = {
            type E = f64;
            impl $Trait<E> for Cpu { $($body)* }
        };
    };
}
use on_cpu;

/// A dfdx device with the operations of this crate: what every layer and model asks of its `D`.
pub trait Backend<E: Dtype>:
    Device<E>
    + DeviceError
    + Synchronize
    + AdamKernel<E>
    + AddKernel<E>
    + AddReLUKernel<E>
    + AttentionKernel<E>
    + BatchNorm2DKernel<E>
    + ConcatKernel<E>
    + Conv2DKernel<E>
    + CrossEntropyKernel<E>
    + DistanceKernel<E>
    + DropoutKernel<E>
    + GELUKernel<E>
    + GradientKernel<E>
    + GroupNormKernel<E>
    + HostAccess<E>
    + LayerNormKernel<E>
    + LinearKernel<E>
    + Pool2DKernel<E>
    + PositionEmbeddingKernel<E>
    + ReLUKernel<E>
    + SgdKernel<E>
    + SiLUKernel<E>
    + Accumulate<E>
    + UpsampleKernel<E>
{
}

impl<E: Dtype, D> Backend<E> for D where
    D: Device<E>
        + DeviceError
        + Synchronize
        + AdamKernel<E>
        + AddKernel<E>
        + AddReLUKernel<E>
        + AttentionKernel<E>
        + BatchNorm2DKernel<E>
        + ConcatKernel<E>
        + Conv2DKernel<E>
        + CrossEntropyKernel<E>
        + DistanceKernel<E>
        + DropoutKernel<E>
        + GELUKernel<E>
        + GradientKernel<E>
        + GroupNormKernel<E>
        + HostAccess<E>
        + LayerNormKernel<E>
        + LinearKernel<E>
        + Pool2DKernel<E>
        + PositionEmbeddingKernel<E>
        + ReLUKernel<E>
        + SgdKernel<E>
        + SiLUKernel<E>
        + Accumulate<E>
        + UpsampleKernel<E>
{
}
