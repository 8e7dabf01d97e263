//! The devices that layers and models run on.

use dfdx::dtypes::Dtype;
use dfdx::tensor_ops::Device;

use crate::error::DeviceError;
use crate::ops::conv2d::Conv2DKernel;

/// A dfdx device with the operations of this crate: what every layer and model asks of its `D`.
pub trait Backend<E: Dtype>: Device<E> + DeviceError + Conv2DKernel<E> {}

impl<E: Dtype, D> Backend<E> for D where D: Device<E> + DeviceError + Conv2DKernel<E> {}
