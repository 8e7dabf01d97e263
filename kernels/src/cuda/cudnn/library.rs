//! cuDNN 9, loaded when it is first used: its functions, as this crate declares them.
//!
//! Status codes are plain numbers: cuDNN 9 has other ones than the enums of cudarc 0.9 know.

use std::ffi::{c_char, c_int, c_void, CStr};
use std::sync::OnceLock;

use libloading::os::unix::Library as File;

use crate::error::{Error, Result};

/// What is loaded.
const FILE: &str = "libcudnn.so.9";

/// A `cudnnStatus_t`.
pub(super) type Status = c_int;
/// An object of cuDNN's: a handle or a descriptor.
pub(super) type Object = *mut c_void;

/// `CUDNN_DATA_FLOAT`, and the layout `CUDNN_TENSOR_NCHW`.
pub(super) const FLOAT: c_int = 0;
pub(super) const NCHW: c_int = 0;
/// `CUDNN_CROSS_CORRELATION`: no kernel is flipped.
pub(super) const CROSS_CORRELATION: c_int = 1;
/// `CUDNN_FMA_MATH`: full `f32`.
pub(super) const FMA_MATH: c_int = 3;
/// `CUDNN_DEFAULT_MATH`: tensor cores as they are, TF32 on `f32`.
pub(super) const DEFAULT_MATH: c_int = 0;
/// `CUDNN_DETERMINISTIC`
pub(super) const DETERMINISTIC: c_int = 1;

/// One algorithm in the order of expected speed: `cudnnConvolution{Fwd,BwdData,BwdFilter}AlgoPerf_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Algorithm {
    pub number: c_int,
    pub status: Status,
    pub time: f32,
    /// Bytes of its workspace.
    pub memory: usize,
    pub determinism: c_int,
    pub math: c_int,
    reserved: [c_int; 3],
}

/// `cudnnGetConvolution*Algorithm_v7`: of two tensors or filters, the convolution and the result.
pub(super) type Find = unsafe extern "C" fn(
    Object,
    Object,
    Object,
    Object,
    Object,
    c_int,
    *mut c_int,
    *mut Algorithm,
) -> Status;

/// `cudnnConvolution*`: y = alpha conv(a, b) + beta y.
pub(super) type Convolve = unsafe extern "C" fn(
    Object,
    *const f32,
    Object,
    *const c_void,
    Object,
    *const c_void,
    Object,
    c_int,
    *mut c_void,
    usize,
    *const f32,
    Object,
    *mut c_void,
) -> Status;

macro_rules! library {
    ($($field:ident = $name:literal: $type:ty;)*) => {
        /// The functions.
        pub(super) struct Library {
            $(pub(super) $field: $type,)*
            _file: File,
        }

        impl Library {
            fn of(file: File) -> std::result::Result<Self, libloading::Error> {
                // SAFETY: the types are those of cudnn.h, version 9.
                unsafe {
                    Ok(Self {
                        $($field: *file.get::<$type>(concat!($name, "\0").as_bytes())?,)*
                        _file: file,
                    })
                }
            }
        }
    };
}

type Create = unsafe extern "C" fn(*mut Object) -> Status;
type Destroy = unsafe extern "C" fn(Object) -> Status;
type Set4 = unsafe extern "C" fn(Object, c_int, c_int, c_int, c_int, c_int, c_int) -> Status;
type SetConvolution =
    unsafe extern "C" fn(Object, c_int, c_int, c_int, c_int, c_int, c_int, c_int, c_int) -> Status;

library! {
    version = "cudnnGetVersion": unsafe extern "C" fn() -> usize;
    error = "cudnnGetErrorString": unsafe extern "C" fn(Status) -> *const c_char;
    create = "cudnnCreate": Create;
    destroy = "cudnnDestroy": Destroy;
    create_tensor = "cudnnCreateTensorDescriptor": Create;
    set_tensor = "cudnnSetTensor4dDescriptor": Set4;
    destroy_tensor = "cudnnDestroyTensorDescriptor": Destroy;
    create_filter = "cudnnCreateFilterDescriptor": Create;
    set_filter = "cudnnSetFilter4dDescriptor": Set4;
    destroy_filter = "cudnnDestroyFilterDescriptor": Destroy;
    create_convolution = "cudnnCreateConvolutionDescriptor": Create;
    set_convolution = "cudnnSetConvolution2dDescriptor": SetConvolution;
    set_groups = "cudnnSetConvolutionGroupCount": unsafe extern "C" fn(Object, c_int) -> Status;
    set_math = "cudnnSetConvolutionMathType": unsafe extern "C" fn(Object, c_int) -> Status;
    destroy_convolution = "cudnnDestroyConvolutionDescriptor": Destroy;
    find_forward = "cudnnGetConvolutionForwardAlgorithm_v7": Find;
    find_backward_data = "cudnnGetConvolutionBackwardDataAlgorithm_v7": Find;
    find_backward_filter = "cudnnGetConvolutionBackwardFilterAlgorithm_v7": Find;
    forward = "cudnnConvolutionForward": Convolve;
    backward_data = "cudnnConvolutionBackwardData": Convolve;
    backward_filter = "cudnnConvolutionBackwardFilter": Convolve;
}

impl Library {
    /// The library, loaded once.
    ///
    /// # Errors
    /// [`Error::Device`] if it is not found, or of another version: what it says tells what to do.
    pub(super) fn get() -> Result<&'static Self> {
        static LIBRARY: OnceLock<std::result::Result<Library, String>> = OnceLock::new();
        let loaded = LIBRARY.get_or_init(|| {
            let library = open().and_then(Self::of).map_err(|err| err.to_string())?;
            // SAFETY: it takes nothing.
            match unsafe { (library.version)() } {
                90_000..100_000 => Ok(library),
                other => Err(format!("its version is {other}")),
            }
        });
        loaded.as_ref().map_err(|why| {
            Error::device(format_args!(
                "cuDNN 9 was not found ({FILE}: {why}): install it (pip's nvidia-cudnn-cu13, for one, or \
                 nvidia-cudnn-cu12 with CUDA 12) and put its folder into LD_LIBRARY_PATH, or build without the feature `cudnn`, or call `use_cudnn(false)` first"
            ))
        })
    }

    /// Whether cuDNN can do what it was asked for: not, if it calls that a bad parameter or not supported.
    pub(super) fn supports(&self, what: &str, status: Status) -> Result<bool> {
        match status {
            2000..4000 => Ok(false),
            _ => self.check(what, status).map(|()| true),
        }
    }

    /// A status as a result.
    pub(super) fn check(&self, what: &str, status: Status) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: cuDNN has a text that lives for ever for every status, also for unknown ones.
        let text = unsafe { CStr::from_ptr((self.error)(status)) };
        let text = text.to_string_lossy();
        Err(Error::device(format_args!(
            "cuDNN: {what}: {text} ({status})"
        )))
    }
}

#[cfg(not(cuda_emulator))]
fn open() -> std::result::Result<File, libloading::Error> {
    // SAFETY: what cuDNN does when it is loaded is what every program that uses it relies on.
    unsafe { File::new(FILE) }
}

/// The emulator is a part of the program. EMU_CUDNN names another file, for the error's test.
#[cfg(cuda_emulator)]
fn open() -> std::result::Result<File, libloading::Error> {
    match std::env::var_os("EMU_CUDNN") {
        // SAFETY: as above.
        Some(file) => unsafe { File::new(file) },
        None => Ok(File::this()),
    }
}
