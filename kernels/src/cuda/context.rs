//! What a thread keeps of a device: its kernels' functions, a cuBLAS handle, a workspace.
//!
//! All contexts of a device share its default stream, on which everybody's kernels run: everything happens
//! in the order in which it was asked for, and memory is freed in that order.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::cublas::sys::{cublasHandle_t, cublasMath_t, cublasSetMathMode};
use cudarc::cublas::CudaBlas;
use cudarc::driver::result::device::get_attribute;
use cudarc::driver::result::{memcpy_dtoh_sync, module, DriverError};
use cudarc::driver::{sys, CudaDevice, CudaSlice, DevicePtr, DeviceSlice};

use super::per_device::PerDevice;
use super::Source;
use crate::error::{Error, Result};

thread_local! {
    static CONTEXTS: PerDevice<Context> = const { PerDevice::new() };
}

/// This thread's context of a device, whose driver context is made the thread's.
pub(super) fn context(device: i32) -> Result<Rc<Context>> {
    let context = CONTEXTS.with(|contexts| contexts.get(device, || Context::new(device)))?;
    context.device.bind_to_thread().map_err(failed)?;
    Ok(context)
}

/// Frees the workspaces of this thread's contexts that are not in use.
pub fn free_workspaces() {
    for context in CONTEXTS.with(PerDevice::all) {
        if let Ok(mut workspace) = context.workspace.try_borrow_mut() {
            workspace.take();
        }
    }
}

/// Whether a device's tensor cores know TF32: from compute capability 8 on.
///
/// # Errors
/// [`Error::Device`] if the device cannot be asked.
pub fn has_tf32(device: i32) -> Result<bool> {
    Ok(context(device)?.has_tf32)
}

/// An error of the driver or of cuBLAS.
pub(super) fn failed(err: impl std::fmt::Debug) -> Error {
    Error::device(format_args!("CUDA: {err:?}"))
}

pub(super) struct Context {
    device: Arc<CudaDevice>,
    has_tf32: bool,
    blas: CudaBlas,
    /// Whether the handle's products round to TF32.
    tf32: Cell<bool>,
    modules: RefCell<HashMap<&'static str, sys::CUmodule>>,
    functions: RefCell<HashMap<&'static str, sys::CUfunction>>,
    workspace: RefCell<Option<CudaSlice<f32>>>,
    /// Zeros.
    counters: RefCell<Option<CudaSlice<u32>>>,
}

impl Context {
    fn new(device: i32) -> Result<Self> {
        let device = CudaDevice::new(device as usize).map_err(failed)?;
        keep_freed_memory(&device);
        let major = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
        // SAFETY: the device is there.
        let major = unsafe { get_attribute(*device.cu_device(), major) };
        Ok(Self {
            has_tf32: major.map_err(failed)? >= 8,
            blas: CudaBlas::new(device.clone()).map_err(failed)?,
            device,
            tf32: Cell::new(false),
            modules: RefCell::default(),
            functions: RefCell::default(),
            workspace: RefCell::default(),
            counters: RefCell::default(),
        })
    }

    pub(super) fn device(&self) -> &Arc<CudaDevice> {
        &self.device
    }

    /// The handle of cuBLAS, whose products round to TF32 or not.
    pub(super) fn blas(&self, tf32: bool) -> Result<cublasHandle_t> {
        let handle = *self.blas.handle();
        if self.tf32.get() != tf32 {
            let mode = match tf32 {
                true => cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH,
                false => cublasMath_t::CUBLAS_DEFAULT_MATH,
            };
            // SAFETY: the handle is this context's own, and lives.
            let set = unsafe { cublasSetMathMode(handle, mode) };
            set.result().map_err(failed)?;
            self.tf32.set(tf32);
        }
        Ok(handle)
    }

    /// The kernel `name` of `source`, which is loaded when it is first asked for.
    pub(super) fn function(
        &self,
        source: &'static Source,
        name: &'static str,
    ) -> Result<sys::CUfunction> {
        if let Some(&function) = self.functions.borrow().get(name) {
            return Ok(function);
        }
        let at = |err: DriverError| failed(format_args!("{name} of {}.cu: {err:?}", source.name));
        let loaded = self.modules.borrow().get(source.name).copied();
        let module = match loaded {
            Some(module) => module,
            None => load(source.ptx).map_err(at)?,
        };
        self.modules.borrow_mut().insert(source.name, module);
        let c_name = std::ffi::CString::new(name).expect("a C identifier");
        // SAFETY: the module is loaded, and stays so as long as the process runs.
        let function = unsafe { module::get_function(module, c_name) }.map_err(at)?;
        self.functions.borrow_mut().insert(name, function);
        Ok(function)
    }

    /// Calls `f` with the address of `len` elements that hold anything.
    pub(super) fn with_workspace<R, F: From<Error>>(
        &self,
        len: usize,
        f: impl FnOnce(u64) -> Result<R, F>,
    ) -> Result<R, F> {
        self.reserve_workspace(len)?;
        // Borrowed, so that nobody frees it.
        let workspace = self.workspace.borrow();
        let memory = workspace.as_ref().expect("just reserved");
        f(*memory.device_ptr())
    }

    /// Calls `f` with the address of `len` zeros, which the kernels that it launches leave as zeros.
    pub(super) fn with_counters<R, F: From<Error>>(
        &self,
        len: usize,
        f: impl FnOnce(u64) -> Result<R, F>,
    ) -> Result<R, F> {
        let mut counters = self.counters.borrow_mut();
        if counters.as_ref().is_none_or(|memory| memory.len() < len) {
            let zeros = self.device.alloc_zeros(len.next_power_of_two().max(1024));
            *counters = Some(zeros.map_err(failed)?);
        }
        let memory = counters.as_ref().expect("just made");
        f(*memory.device_ptr())
    }

    /// Allocates a workspace of `len` elements, if the present one has fewer.
    pub(super) fn reserve_workspace(&self, len: usize) -> Result<()> {
        let mut workspace = self.workspace.borrow_mut();
        if workspace.as_ref().is_none_or(|memory| memory.len() < len) {
            // The old one first: both may be too much.
            drop(workspace.take());
            *workspace = Some(allocate(&self.device, len.max(1)).map_err(failed)?);
        }
        Ok(())
    }

    /// Copies to the host what is at `address`.
    ///
    /// # Safety
    /// There are as many elements as `host` has.
    pub(super) unsafe fn copy_to_host<E>(
        &self,
        host: &mut [E],
        address: u64,
    ) -> std::result::Result<(), DriverError> {
        // SAFETY: the caller's. The default stream is synchronous with this copy.
        unsafe { memcpy_dtoh_sync(host, address) }
    }
}

/// Loads a module into the thread's current driver context.
fn load(ptx: &str) -> std::result::Result<sys::CUmodule, DriverError> {
    let ptx = std::ffi::CString::new(ptx).expect("text");
    // SAFETY: the image is PTX with its terminating zero.
    unsafe { module::load_data(ptx.as_ptr().cast()) }
}

/// Elements that hold anything.
fn allocate(
    device: &Arc<CudaDevice>,
    len: usize,
) -> std::result::Result<CudaSlice<f32>, DriverError> {
    // SAFETY: who takes a workspace writes it before he reads it, and any bits are an f32.
    unsafe { device.alloc::<f32>(len) }
}

/// Has the driver keep the memory that is freed for the next allocation, instead of giving it back at every
/// synchronisation. A driver that cannot is as good, and slower.
fn keep_freed_memory(device: &CudaDevice) {
    let mut pool = std::ptr::null_mut();
    let mut all = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is the device's own, and the attribute is one u64.
    unsafe {
        let found = sys::cuDeviceGetDefaultMemPool(&mut pool, *device.cu_device()).result();
        if found.is_ok() {
            let _ = sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut all).cast()).result();
        }
    }
}
