//! The beginning of work on a device.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use dfdx::tensor::{Cuda, TensorFromVec};

use super::address::{device_of, place};
use super::pools::keep_freed_tensors;
#[cfg(feature = "cudnn")]
use crate::bridge::cuda::calls::{check_cudnn, uses_cudnn};
use crate::bridge::cuda::calls::{check_driver, download, Slice};
use crate::error::{Error, Result};

thread_local! {
    static CHECKED: RefCell<BTreeSet<i32>> = const { RefCell::new(BTreeSet::new()) };
}

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

/// Which device `dev` is. The first time on a thread it is checked that addresses of tensors are read right.
///
/// # Errors
/// [`Error::Device`] if they are not.
pub fn start(dev: &Cuda) -> Result<i32> {
    let device = match only_device() {
        Some(device) => device,
        None => device_of(dev).ok_or_else(unreadable)?,
    };
    if CHECKED.with_borrow(|checked| checked.contains(&device)) {
        return Ok(device);
    }
    let values = [1.5f32, -2.0, 3.25, 1e-30];
    let tensor = dev
        .try_tensor_from_vec(values.to_vec(), (values.len(),))
        .map_err(Error::device)?;
    let place = place(&tensor).filter(|place| place.len == values.len() && place.device == device);
    let place = place.ok_or_else(unreadable)?;
    if download(Slice::<f32>::new(place.address, place.len, device))? != values {
        return Err(unreadable());
    }
    CHECKED.with_borrow_mut(|checked| checked.insert(device));
    Ok(device)
}

/// The device, if there is but one: reading which one a `Cuda` is takes a microsecond, and a step asks often.
fn only_device() -> Option<i32> {
    static ONLY: OnceLock<Option<i32>> = OnceLock::new();
    *ONLY.get_or_init(|| match cudarc::driver::result::device::get_count() {
        Ok(1) => cudarc::driver::result::device::get(0).ok(),
        _ => None,
    })
}

/// dfdx or cudarc is not the release that [`place`] knows.
pub(super) fn unreadable() -> Error {
    Error::Device(
        "the address of a CUDA tensor cannot be read: it takes dfdx 0.13.0 and cudarc 0.9.15"
            .into(),
    )
}
