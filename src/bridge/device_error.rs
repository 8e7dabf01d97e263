//! Our errors in dfdx's.

use dfdx::tensor::CpuError;

use crate::error::{carried, Error};

/// Devices whose error type can carry ours, so that our layers fit into dfdx's tuples, where every
/// layer has the device's error type.
///
/// dfdx's errors have no room for a message; [`Error::from`] finds it again.
pub trait DeviceError: dfdx::tensor::HasErr {
    /// The device's nearest error.
    fn device_error(err: Error) -> Self::Err;
}

impl DeviceError for dfdx::tensor::Cpu {
    fn device_error(err: Error) -> CpuError {
        match err {
            Error::Device(message) if message == CpuError::OutOfMemory.to_string() => {
                CpuError::OutOfMemory
            }
            err => {
                carried::keep(err);
                CpuError::WrongNumElements
            }
        }
    }
}

#[cfg(feature = "cuda")]
impl DeviceError for dfdx::tensor::Cuda {
    fn device_error(err: Error) -> dfdx::tensor::CudaError {
        dfdx::tensor::CudaError::Cpu(dfdx::tensor::Cpu::device_error(err))
    }
}
