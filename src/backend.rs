//! The devices that layers and models run on.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Synchronize;
use dfdx::tensor_ops::Device;

use crate::bridge::grad::Accumulate;
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

/// A dfdx device with the operations of this crate: what every layer and model asks of its `D`.
pub trait Backend<E: Dtype>:
    Device<E>
    + DeviceError
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
    + Accumulate<E>
    + UpsampleKernel<E>
{
}

impl<E: Dtype, D> Backend<E> for D where
    D: Device<E>
        + DeviceError
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
        + Accumulate<E>
        + UpsampleKernel<E>
{
}
