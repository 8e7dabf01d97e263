//! The errors of this crate.

pub(crate) mod carried;
mod data;

use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};

use dfdx::tensor::CpuError;

pub(crate) use data::DataResult;
pub use data::{DataError, FileName};

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

    /// A tensor that a model has is not where its value should come from.
    #[error("{place}: no tensor `{name}`, which has shape {expected:?}")]
    MissingTensor {
        /// The file or the state that lacks it.
        place: String,
        /// The tensor's path name.
        name: String,
        /// The shape that the model gives it.
        expected: Vec<usize>,
    },

    /// A tensor that belongs to nothing in the model.
    #[error("{place}: tensor `{name}` of shape {found:?} has no counterpart in the model")]
    UnexpectedTensor {
        /// The file or the state that holds it.
        place: String,
        /// The tensor's path name.
        name: String,
        /// The shape that it has there.
        found: Vec<usize>,
    },

    /// A stored tensor's shape is not that of its counterpart in the model.
    #[error(
        "{place}: tensor `{name}`: expected shape {expected:?}, found {found:?}{}",
        after_colon(note)
    )]
    TensorShape {
        /// The file or the state that holds it.
        place: String,
        /// The tensor's path name.
        name: String,
        /// The shape that the model gives it.
        expected: Vec<usize>,
        /// The shape that it has there.
        found: Vec<usize>,
        /// Why that may be, if more is known.
        note: Box<str>,
    },

    /// A file has nothing for a model.
    #[error(
        "{place}: none of its tensors has a counterpart in the model: it has {}; the model has {}",
        some_of(found),
        some_of(expected)
    )]
    NothingMatches {
        /// The file.
        place: String,
        /// The names that it has.
        found: Vec<String>,
        /// The names that the model has.
        expected: Vec<String>,
    },

    /// A weight, or another number of a model's state, is infinite or not a number.
    #[error("{place}: `{name}`: element {index} is {value}: must be finite")]
    NonFiniteWeight {
        /// The model, or the file that it comes from.
        place: String,
        /// The tensor's path name.
        name: String,
        /// The first such element, in row-major order.
        index: usize,
        /// Its value.
        value: f64,
    },

    /// A stored tensor's element type is not that of its counterpart in the model.
    #[error("{place}: tensor `{name}`: expected {expected}, found {found}")]
    TensorDtype {
        /// The file that holds it.
        place: String,
        /// The tensor's path name.
        name: String,
        /// The element type and shape that the model gives it.
        expected: String,
        /// The element type and shape that it has there.
        found: String,
    },

    /// A stored value cannot be what it is stored as (a negative step count, say).
    #[error("{place}: `{name}` = {value}: must be {range}")]
    StoredValue {
        /// The file or the model that holds it.
        place: String,
        /// The path name of the value.
        name: String,
        /// The value that it has.
        value: String,
        /// The values that it can have.
        range: &'static str,
    },

    /// Two tensors have one path name, so that state kept by name cannot tell them apart.
    #[error("two tensors have the name `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },

    /// Parameters had no gradient in an optimizer's update. The others have been updated.
    #[error("parameters without a gradient: {}", names.join(", "))]
    UnusedParameters {
        /// Their path names, in the model's order.
        names: Vec<String>,
    },

    /// A choice of layers holds none of a model's sparse layers.
    #[error(
        "no sparse layer matches `{pattern}`: the model has {}",
        some_of(paths)
    )]
    UnmatchedLayers {
        /// The path pattern, or the name of the preset or predicate.
        pattern: String,
        /// The paths of the model's sparse layers.
        paths: Vec<String>,
    },

    /// A path of [`ParameterGroups`](crate::optim::ParameterGroups) holds none of a model's parameters.
    #[error("no parameter matches `{pattern}`: the model has {}", some_of(names))]
    UnmatchedParameters {
        /// The path pattern.
        pattern: String,
        /// The names of the model's parameters.
        names: Vec<String>,
    },

    /// Training has diverged: something is infinite or not a number.
    #[error(
        "epoch {epoch}, batch {batch}: {what} is {value} (learning rate {lr}{})",
        tensor.as_ref().map_or(String::new(), |name| format!("; the first such tensor is `{name}`"))
    )]
    Diverged {
        /// The epoch, counted from 0.
        epoch: u64,
        /// The batch in the epoch, counted from 0.
        batch: usize,
        /// What: the loss, or the norm of the gradient.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The learning rate.
        lr: f64,
        /// The model's first tensor with such a value, if there is one.
        tensor: Option<String>,
    },

    /// A run was saved and ended because a signal asked for it.
    #[error(
        "stopped by {}: epoch {epoch}, batch {batch} is in {}; go on with --resume",
        if *signal == 2 { "SIGINT" } else { "SIGTERM" },
        path.display()
    )]
    Interrupted {
        /// 2 for SIGINT, 15 for SIGTERM.
        signal: u8,
        /// The epochs done.
        epoch: u64,
        /// The batches done of the next one.
        batch: usize,
        /// The checkpoint.
        path: PathBuf,
    },

    /// A file is not what it should be (cut off, damaged, of another format).
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },

    /// The operating system could not read or write a file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: std::io::Error,
    },

    /// The tensor's device reported an error (out of memory, say).
    #[error("device: {0}")]
    Device(String),

    /// The ranks of a distributed training can no longer go on together.
    #[error("rank {rank}: {message}")]
    Distributed {
        /// The rank that says so.
        rank: usize,
        /// What has happened, and to which rank.
        message: String,
    },

    /// The files of a data set, or its labels, are not as they should be.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// `note` after a colon, or nothing.
fn after_colon(note: &str) -> String {
    match note {
        "" => String::new(),
        note => format!(": {note}"),
    }
}

/// The first few names, and how many there are.
fn some_of(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        few if few.len() <= 6 => few.join(", "),
        many => format!("{}, ... ({} in all)", many[..6].join(", "), many.len()),
    }
}

/// The device's error that stands for one of ours.
const STAND_IN: &str = "WrongNumElements";

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

    /// An [`Error::Io`].
    pub fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }

    /// Wraps an error of a dfdx device. If it stands for one of ours, which a layer in a tuple of
    /// dfdx's has just returned on this thread, it is that one.
    pub fn device(err: impl Display) -> Self {
        let text = err.to_string();
        match text.contains(STAND_IN) {
            true => carried::take().unwrap_or(Self::Device(text)),
            false => Self::Device(explained(text)),
        }
    }
}

impl From<ssprop_kernels::Error> for Error {
    fn from(err: ssprop_kernels::Error) -> Self {
        use ssprop_kernels::Error::{Caller, Device, Parameter, Shape};
        match err {
            Shape {
                op,
                what,
                expected,
                found,
            } => Self::Shape {
                op,
                what,
                expected,
                found,
            },
            Parameter { name, value, range } => Self::Parameter { name, value, range },
            Device(message) => Self::device(message),
            Caller(err) => match err.downcast() {
                Ok(own) => *own,
                Err(other) => Self::device(other),
            },
            other => Self::device(other),
        }
    }
}

/// What to do about an error of the CUDA driver or of a CUDA library, before its own words.
fn explained(text: String) -> String {
    let advice = [
        (
            &[
                "CUDA_ERROR_OUT_OF_MEMORY",
                "CUBLAS_STATUS_ALLOC_FAILED",
                "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
            ][..],
            "the GPU's memory has run out: end what else uses it (nvidia-smi shows that) and resume the run, \
             or begin one with a smaller batch",
        ),
        (
            &["CUDA_ERROR_UNSUPPORTED_PTX_VERSION"],
            "the NVIDIA driver is too old for the CUDA tool kit that this program was compiled with: update the \
             driver, or compile with an older tool kit",
        ),
        (
            &["CUDA_ERROR_INVALID_PTX", "CUDA_ERROR_NO_BINARY_FOR_GPU"],
            "the GPU is older than this program was compiled for: set CUDA_COMPUTE_CAP to its compute capability \
             and compile anew",
        ),
    ];
    let known = advice
        .iter()
        .find(|(names, _)| names.iter().any(|name| text.contains(name)));
    match known {
        Some((_, advice)) if !text.contains(advice) => format!("{advice} ({text})"),
        _ => text,
    }
}

impl From<CpuError> for Error {
    fn from(err: CpuError) -> Self {
        Self::device(err)
    }
}

#[cfg(feature = "cuda")]
impl From<dfdx::tensor::CudaError> for Error {
    fn from(err: dfdx::tensor::CudaError) -> Self {
        Self::device(err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_runs_out_is_explained_whoever_says_so() {
        for text in [
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "CublasError(CUBLAS_STATUS_ALLOC_FAILED)",
            "cuDNN: a convolution: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED (4004)",
        ] {
            let found = Error::device(text).to_string();
            assert!(found.contains("GPU's memory has run out"), "{found}");
            assert!(found.ends_with(&format!("({text})")), "{found}");
            // An error that passes through twice.
            assert_eq!(explained(explained(text.into())), explained(text.into()));
        }
        // Of the host's memory, and of none.
        for text in [
            "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
            "CUDNN_STATUS_EXECUTION_FAILED",
        ] {
            assert_eq!(explained(text.into()), text);
        }
    }
}
