//! The workspace and the counters of a device, for which makes room what nobody uses.

use super::pools::{free_cuda_buffers, is_refused, refuse};
use crate::bridge::cuda::calls::SliceMut;
use crate::error::{Error, Result};
use crate::kernels::cuda;

/// See [`cuda::with_workspace`]. If there is no room, what the thread's pools keep is freed.
pub fn with_workspace<R>(
    device: i32,
    len: usize,
    f: impl FnOnce(SliceMut<'_, f32>) -> Result<R>,
) -> Result<R> {
    // If there is none even so, this says why.
    has_workspace(device, len);
    cuda::with_workspace(device, len, f)
}

/// Whether there is room for a workspace of `len` elements, if need be after what the thread's pools keep is freed.
pub fn has_workspace(device: i32, len: usize) -> bool {
    if is_refused(device, len) {
        return false;
    }
    let reserved = || cuda::reserve_workspace(device, len).is_ok();
    if reserved() {
        return true;
    }
    free_cuda_buffers();
    let has_room = reserved();
    if !has_room {
        // Not again at every step.
        refuse(device, len);
    }
    has_room
}

/// See [`cuda::with_counters`]. If there is no room, what the thread's pools keep is freed.
pub fn with_counters<R>(
    device: i32,
    len: usize,
    f: impl FnOnce(SliceMut<'_, u32>) -> Result<R>,
) -> Result<R> {
    let made = cuda::with_counters(device, len, |_| Ok::<_, Error>(()));
    if made.is_err() {
        free_cuda_buffers();
    }
    cuda::with_counters(device, len, f)
}
