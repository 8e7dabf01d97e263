//! The devices that layers and models run on.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Synchronize;
use dfdx::tensor_ops::Device;

use crate::error::DeviceError;
use crate::ops::add_relu::AddReLUKernel;
use crate::ops::batch_norm::BatchNorm2DKernel;
use crate::ops::conv2d::Conv2DKernel;
use crate::ops::pool::Pool2DKernel;
use crate::ops::relu::ReLUKernel;
use crate::recycle::Recycle;

/// A dfdx device with the operations of this crate: what every layer and model asks of its `D`.
pub trait Backend<E: Dtype>:
    Device<E>
    + DeviceError
    + Synchronize
    + AddReLUKernel<E>
    + BatchNorm2DKernel<E>
    + Conv2DKernel<E>
    + Pool2DKernel<E>
    + ReLUKernel<E>
    + Recycle<E>
{
}

impl<E: Dtype, D> Backend<E> for D where
    D: Device<E>
        + DeviceError
        + Synchronize
        + AddReLUKernel<E>
        + BatchNorm2DKernel<E>
        + Conv2DKernel<E>
        + Pool2DKernel<E>
        + ReLUKernel<E>
        + Recycle<E>
{
}
