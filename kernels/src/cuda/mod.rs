//! The kernels of CUDA devices: one `.cu` file an operation, and what launches them. What an operation
//! launches is in `backend/cuda`.
//!
//! A kernel's sizes are `unsigned` of 31 bits, its memory are addresses of `float`. Sums are taken in a
//! fixed order, so that results are the same from run to run.

mod adam;
mod blas;
mod context;
#[cfg(feature = "cudnn")]
mod cudnn;
mod driver;
mod launch;
mod memory;
mod per_device;
mod tf32;
mod upload;

pub use adam::{add_adam, forget_adam, launch_adam, AdamCommon, AdamTensor};
pub use blas::{multiply, Matrix, Product};
pub use context::{free_workspaces, has_tf32};
#[cfg(feature = "cudnn")]
pub use cudnn::{check_cudnn, use_cudnn, uses_cudnn, Pass, Planned};
pub use driver::check_driver;
pub use launch::{launch, store_indices, Arg, Grid};
pub use memory::{download, reserve_workspace, with_counters, with_workspace, Slice, SliceMut};
pub use tf32::{tf32, use_tf32, Tf32};
pub use upload::{free_uploads, upload};

/// A `.cu` file.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub name: &'static str,
    /// What nvcc made of it; empty under `ci-check`.
    ptx: &'static str,
}

/// Declares `NAME` as the compiled form of `name.cu`.
macro_rules! sources {
    ($($NAME:ident = $file:literal;)*) => {$(
        #[doc = concat!("`", $file, ".cu`")]
        pub static $NAME: Source = Source {
            name: $file,
            #[cfg(not(feature = "ci-check"))]
            ptx: include_str!(concat!(env!("OUT_DIR"), "/", $file, ".ptx")),
            #[cfg(feature = "ci-check")]
            ptx: "",
        };
    )*};
}

sources! {
    ADAM = "adam";
    ADD = "add";
    ADD_RELU = "add_relu";
    ATTENTION = "attention";
    BATCH_NORM = "batch_norm";
    CHANNELS = "channels";
    CONCAT = "concat";
    CONV2D = "conv2d";
    CONV3X3 = "conv3x3";
    CROSS_ENTROPY = "cross_entropy";
    DISTANCE = "distance";
    DROPOUT = "dropout";
    GELU = "gelu";
    GRADIENT = "gradient";
    GROUP_NORM = "group_norm";
    LAYER_NORM = "layer_norm";
    POOL = "pool";
    POSITION_EMBEDDING = "position_embedding";
    RELU = "relu";
    ROWS = "rows";
    SELECT = "select";
    SGD = "sgd";
    SILU = "silu";
    UPSAMPLE = "upsample";
}
