//! The beginning of work on a device.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use dfdx::tensor::{Cuda, TensorFromVec};

use super::address::{device_of, place};
use super::calls::{download, Slice};
use crate::error::{Error, Result};

thread_local! {
    static CHECKED: RefCell<BTreeSet<i32>> = const { RefCell::new(BTreeSet::new()) };
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
