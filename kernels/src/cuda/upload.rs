//! Copies to the device that neither the host nor the device's kernels wait for.
//!
//! What is uploaded goes to a page-locked buffer of the host, from there on a stream of its own to a buffer of the
//! device, while the kernels of the last step run, and from there, in the order of the default stream, to where
//! it is wanted. There are two pairs of buffers: the host writes one while the other is under way.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result::{event, free_sync, malloc_sync, stream, DriverError};
use cudarc::driver::{sys, CudaDevice};

use super::context::{context, failed};
use super::memory::SliceMut;
use super::per_device::PerDevice;
use crate::error::{Error, Result};

thread_local! {
    static UPLOADS: PerDevice<Uploads> = const { PerDevice::new() };
}

/// Frees the buffers of this thread's uploads.
pub fn free_uploads() {
    UPLOADS.with(PerDevice::clear);
}

/// Copies values to the device. They may be changed as soon as this returns.
///
/// # Errors
/// [`Error::Shape`] if there are not as many as there is room for; [`Error::Device`] if memory runs out.
pub fn upload<E: Copy>(values: &[E], to: &SliceMut<'_, E>) -> Result<()> {
    if values.len() != to.len() {
        let what = "elements";
        return Err(Error::shape("upload", what, to.len(), values.len()));
    }
    let bytes = size_of_val(values);
    if bytes == 0 {
        return Ok(());
    }
    let context = context(to.device())?;
    let make = || Uploads::new(context.device().clone()).map_err(failed);
    let uploads = UPLOADS.with(|uploads| uploads.get(to.device(), make))?;
    // SAFETY: `to` is room for `bytes` bytes on the device, which its owner keeps, and whose free is ordered behind
    // what the default stream does here.
    unsafe { uploads.copy(values.as_ptr().cast(), bytes, to.shared().address()) }.map_err(failed)
}

/// Two pairs of buffers, and the stream of the copies from one to the other.
struct Uploads {
    /// Keeps the driver's context.
    device: Arc<CudaDevice>,
    stream: sys::CUstream,
    pairs: [Pair; 2],
    next: Cell<usize>,
}

impl Uploads {
    fn new(device: Arc<CudaDevice>) -> std::result::Result<Self, DriverError> {
        Ok(Self {
            stream: stream::create(stream::StreamKind::NonBlocking)?,
            pairs: [Pair::new()?, Pair::new()?],
            next: Cell::new(0),
            device,
        })
    }

    /// # Safety
    /// At `from` are `bytes` bytes of the host, more than 0, and at `to` is room for them on the device, until what
    /// the default stream is asked for next.
    unsafe fn copy(
        &self,
        from: *const c_void,
        bytes: usize,
        to: u64,
    ) -> std::result::Result<(), DriverError> {
        let pair = &self.pairs[self.next.get()];
        self.next.set((self.next.get() + 1) % self.pairs.len());
        let default = *self.device.cu_stream();
        // SAFETY: the host writes its buffer once the copy out of it is done; the device's is written once what
        // was there has been taken out of it, and read once the copy to it is done. Both have `bytes` bytes, and
        // live until `pair` is asked for more, when nothing is under way (see `reserve`), or dropped.
        unsafe {
            wait(pair.arrived)?;
            let buffers = pair.reserve(bytes)?;
            buffers.host.copy_from_nonoverlapping(from.cast(), bytes);
            sys::cuStreamWaitEvent(self.stream, pair.taken, 0).result()?;
            let host = buffers.host.cast::<c_void>().cast_const();
            sys::cuMemcpyHtoDAsync_v2(buffers.device, host, bytes, self.stream).result()?;
            event::record(pair.arrived, self.stream)?;
            sys::cuStreamWaitEvent(default, pair.arrived, 0).result()?;
            sys::cuMemcpyDtoDAsync_v2(to, buffers.device, bytes, default).result()?;
            event::record(pair.taken, default)
        }
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // SAFETY: the stream is this one's own; nothing on it is left when its copies have arrived.
        unsafe {
            let _ = stream::synchronize(self.stream);
            let _ = stream::destroy(self.stream);
        }
    }
}

/// Waits until what was recorded last has happened, if it has not.
///
/// # Safety
/// The event lives.
unsafe fn wait(event: sys::CUevent) -> std::result::Result<(), DriverError> {
    // SAFETY: the caller's.
    unsafe {
        match sys::cuEventQuery(event) {
            sys::CUresult::CUDA_ERROR_NOT_READY => sys::cuEventSynchronize(event).result(),
            other => other.result(),
        }
    }
}

/// A buffer of the host and one of the device.
struct Pair {
    buffers: RefCell<Option<Buffers>>,
    /// The host's has been copied to the device's.
    arrived: sys::CUevent,
    /// The device's has been copied to where it was wanted.
    taken: sys::CUevent,
}

#[derive(Clone, Copy)]
struct Buffers {
    host: *mut u8,
    device: sys::CUdeviceptr,
    bytes: usize,
}

impl Pair {
    fn new() -> std::result::Result<Self, DriverError> {
        let without_time = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
        Ok(Self {
            buffers: RefCell::new(None),
            arrived: event::create(without_time)?,
            taken: event::create(without_time)?,
        })
    }

    /// Buffers of at least `bytes` bytes.
    fn reserve(&self, bytes: usize) -> std::result::Result<Buffers, DriverError> {
        if let Some(buffers) = self.buffers.borrow().filter(|known| known.bytes >= bytes) {
            return Ok(buffers);
        }
        self.free()?;
        // SAFETY: the address is written before it is read; what is allocated is freed once, by `free`.
        let buffers = unsafe {
            let mut host: *mut c_void = std::ptr::null_mut();
            sys::cuMemAllocHost_v2(&mut host, bytes).result()?;
            let device = malloc_sync(bytes).inspect_err(|_| {
                let _ = sys::cuMemFreeHost(host);
            })?;
            Buffers {
                host: host.cast(),
                device,
                bytes,
            }
        };
        *self.buffers.borrow_mut() = Some(buffers);
        Ok(buffers)
    }

    /// Frees the buffers, once nothing is under way.
    fn free(&self) -> std::result::Result<(), DriverError> {
        let Some(buffers) = self.buffers.take() else {
            return Ok(());
        };
        // SAFETY: they were allocated so, and nobody else knows them.
        unsafe {
            wait(self.arrived)?;
            wait(self.taken)?;
            sys::cuMemFreeHost(buffers.host.cast()).result()?;
            free_sync(buffers.device)
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // At the end of the process the driver may be gone before.
        let _ = self.free();
        // SAFETY: they are this pair's own.
        unsafe {
            let _ = event::destroy(self.arrived);
            let _ = event::destroy(self.taken);
        }
    }
}
