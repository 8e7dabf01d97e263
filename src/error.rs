//! The errors of this crate.

use std::fmt::{Debug, Display};

use dfdx::tensor::CpuError;

/// What can go wrong in this crate, each with the value and the place that it names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two shapes that have to agree do not.
    #[error("{op}: {what}: expected {expected}, found {found}")]
    Shape {
        /// The operation or layer that found it.
        op: &'static str,
        /// What the shapes are of.
        what: &'static str,
        /// The shape (or the condition on it) that would have fitted.
        expected: String,
        /// The shape that was given.
        found: String,
    },

    /// A parameter lies outside its range.
    #[error("{name} = {value}: must be {range}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// The values that it can have.
        range: &'static str,
    },

    /// The tensor's device reported an error (out of memory, say).
    #[error("device: {0}")]
    Device(String),

    /// The files of a data set, or its labels, are not as they should be.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Shape`] that prints both sides with [`Debug`].
    pub fn shape(
        op: &'static str,
        what: &'static str,
        expected: impl Debug,
        found: impl Debug,
    ) -> Self {
        Self::Shape {
            op,
            what,
            expected: format!("{expected:?}"),
            found: format!("{found:?}"),
        }
    }

    /// An [`Error::Parameter`].
    pub fn parameter(name: &'static str, value: impl Display, range: &'static str) -> Self {
        Self::Parameter {
            name,
            value: value.to_string(),
            range,
        }
    }

    /// Wraps an error of a dfdx device.
    pub fn device(err: impl Display) -> Self {
        Self::Device(err.to_string())
    }
}

/// Devices whose error type can carry ours, so that our layers fit into dfdx's tuples, where every
/// layer has the device's error type.
///
/// The message is lost on the way: dfdx's errors have no room for it. Call a layer's own
/// `try_apply` (or a model's forward) to get the whole [`Error`].
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
            _ => CpuError::WrongNumElements,
        }
    }
}

#[cfg(feature = "cuda")]
impl DeviceError for dfdx::tensor::Cuda {
    fn device_error(err: Error) -> dfdx::tensor::CudaError {
        dfdx::tensor::CudaError::Cpu(dfdx::tensor::Cpu::device_error(err))
    }
}
