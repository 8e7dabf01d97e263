//! What kernels can refuse.

use std::fmt::{Debug, Display};

/// Why a kernel has not computed what it was asked for, or its sizes and options cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two shapes that have to agree do not.
    #[error("{op}: {what}: expected {expected}, found {found}")]
    Shape {
        /// The operation that found it.
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

    /// The device reported an error (out of memory, say).
    #[error("device: {0}")]
    Device(String),

    /// What the caller had a kernel call has failed.
    #[error(transparent)]
    Caller(Box<dyn std::error::Error + Send + Sync>),
}

/// A result with a kernel's [`Error`].
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

    /// An [`Error::Device`].
    pub fn device(err: impl Display) -> Self {
        Self::Device(err.to_string())
    }
}
