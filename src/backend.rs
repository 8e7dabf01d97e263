//! The devices that layers and models run on.

use dfdx::dtypes::Dtype;
use dfdx::tensor::{Cache, Synchronize};
use dfdx::tensor_ops::Device;

use crate::error::DeviceError;
use crate::ops::add::AddKernel;
use crate::ops::add_relu::AddReLUKernel;
use crate::ops::attention::AttentionKernel;
use crate::ops::batch_norm::BatchNorm2DKernel;
use crate::ops::concat::ConcatKernel;
use crate::ops::conv2d::Conv2DKernel;
use crate::ops::dropout::DropoutKernel;
use crate::ops::group_norm::GroupNormKernel;
use crate::ops::linear::LinearKernel;
use crate::ops::pool::Pool2DKernel;
use crate::ops::relu::ReLUKernel;
use crate::ops::silu::SiLUKernel;
use crate::ops::upsample::UpsampleKernel;
use crate::recycle::Recycle;

/// A dfdx device with the operations of this crate: what every layer and model asks of its `D`.
///
/// Switch the device's cache on before you train in a loop of your own: `dev.enable_cache()`. A step
/// frees and allocates the same large tensors again and again, and without the cache the system
/// maps and zeroes their memory anew each time (at 128 images a ResNet-18 step takes twice as long).
/// [`Trainer`](crate::train::Trainer) does so itself.
pub trait Backend<E: Dtype>:
    Device<E>
    + DeviceError
    + Cache
    + Synchronize
    + AddKernel<E>
    + AddReLUKernel<E>
    + AttentionKernel<E>
    + BatchNorm2DKernel<E>
    + ConcatKernel<E>
    + Conv2DKernel<E>
    + DropoutKernel<E>
    + GroupNormKernel<E>
    + LinearKernel<E>
    + Pool2DKernel<E>
    + ReLUKernel<E>
    + SiLUKernel<E>
    + Recycle<E>
    + UpsampleKernel<E>
{
}

impl<E: Dtype, D> Backend<E> for D where
    D: Device<E>
        + DeviceError
        + Cache
        + Synchronize
        + AddKernel<E>
        + AddReLUKernel<E>
        + AttentionKernel<E>
        + BatchNorm2DKernel<E>
        + ConcatKernel<E>
        + Conv2DKernel<E>
        + DropoutKernel<E>
        + GroupNormKernel<E>
        + LinearKernel<E>
        + Pool2DKernel<E>
        + ReLUKernel<E>
        + SiLUKernel<E>
        + Recycle<E>
        + UpsampleKernel<E>
{
}
