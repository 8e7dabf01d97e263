//! The workspace of a device, for which makes room what nobody uses.

use super::pools::free_cuda_buffers;
use crate::bridge::cuda::calls::SliceMut;
use crate::error::Result;
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
    let reserved = || cuda::reserve_workspace(device, len).is_ok();
    reserved() || {
        free_cuda_buffers();
        reserved()
    }
}
