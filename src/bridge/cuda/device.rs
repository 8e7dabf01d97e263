//! The first device.

use dfdx::tensor::Cuda;

use super::pools::keep_freed_tensors;
use super::start::start;
use crate::bridge::cuda::calls::check_driver;
#[cfg(feature = "cudnn")]
use crate::bridge::cuda::calls::{check_cudnn, uses_cudnn};
use crate::error::{Error, Result};

/// The first CUDA device, with its random numbers seeded. (dfdx's own constructors panic where there is
/// none.)
///
/// # Errors
/// [`Error::Device`] if there is no device, its driver is older than the tool kit that this was compiled with, or,
/// with the feature `cudnn`, there is no cuDNN; what it says tells what to do.
pub fn cuda_device(seed: u64) -> Result<Cuda> {
    let missing = |err: &dyn std::fmt::Debug| {
        Error::device(format_args!(
            "no CUDA device was found: {err:?}; it takes an NVIDIA GPU and its driver, or use the CPU"
        ))
    };
    cudarc::driver::result::init().map_err(|err| missing(&err))?;
    check_driver()?;
    let count = cudarc::driver::result::device::get_count().map_err(|err| missing(&err))?;
    if count < 1 {
        return Err(missing(&"the driver knows of none"));
    }
    #[cfg(feature = "cudnn")]
    if uses_cudnn() {
        check_cudnn()?;
    }
    let dev = Cuda::try_seed_from_u64(seed).map_err(Error::device)?;
    start(&dev)?;
    keep_freed_tensors(&dev)?;
    Ok(dev)
}
