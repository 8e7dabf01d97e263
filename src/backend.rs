//! The devices that layers and models run on.

use dfdx::dtypes::Dtype;
use dfdx::tensor_ops::Device;

use crate::error::DeviceError;

/// A dfdx device with the operations of this crate: what every layer and model asks of its `D`.
pub trait Backend<E: Dtype>: Device<E> + DeviceError {}

impl<E: Dtype, D> Backend<E> for D where D: Device<E> + DeviceError {}
