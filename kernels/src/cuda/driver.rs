//! Whether the driver can run what nvcc has compiled.

use cudarc::driver::sys::cuDriverGetVersion;

use super::context::failed;
use crate::error::{Error, Result};

/// The CUDA version of the tool kit, 13000 for 13.0, as `build.rs` has found it; 0 without one.
fn compiled_for() -> i32 {
    let version = option_env!("SSPROP_CUDA_VERSION").and_then(|version| version.parse().ok());
    version.unwrap_or(0)
}

/// That the driver takes what this program was compiled to. (The driver compiles PTX, and refuses that of a newer
/// tool kit when a kernel is first asked for.)
///
/// # Errors
/// [`Error::Device`] if it is older.
pub fn check_driver() -> Result<()> {
    let mut found = 0;
    // SAFETY: the driver writes one int.
    unsafe { cuDriverGetVersion(&mut found) }
        .result()
        .map_err(failed)?;
    let needed = compiled_for();
    if found >= needed {
        return Ok(());
    }
    let name = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
    Err(Error::Device(format!(
        "the NVIDIA driver runs CUDA {} at most, and this program was compiled with CUDA {}: update the driver, or \
         compile with an older tool kit",
        name(found),
        name(needed)
    )))
}
