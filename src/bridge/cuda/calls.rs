//! What the CUDA kernels' crate offers, with this crate's errors.

use crate::error::Result;
use crate::kernels::cuda;
pub use crate::kernels::cuda::*;

/// See [`cuda::launch`].
pub fn launch(
    source: &'static Source,
    name: &'static str,
    device: i32,
    grid: Grid,
    args: &[Arg],
) -> Result<()> {
    Ok(cuda::launch(source, name, device, grid, args)?)
}

/// See [`cuda::multiply`].
pub fn multiply(p: Product, a: Matrix<'_>, b: Matrix<'_>, to: &SliceMut<'_, f32>) -> Result<()> {
    Ok(cuda::multiply(p, a, b, to)?)
}

/// See [`cuda::add_adam`].
pub fn add_adam(
    kernel: &'static str,
    device: i32,
    common: &AdamCommon,
    tensor: AdamTensor,
) -> Result<()> {
    Ok(cuda::add_adam(kernel, device, common, tensor)?)
}

/// See [`cuda::launch_adam`].
pub fn launch_adam() -> Result<()> {
    Ok(cuda::launch_adam()?)
}

/// See [`cuda::store_indices`].
pub fn store_indices(indices: &[usize], to: &SliceMut<'_, u32>) -> Result<()> {
    Ok(cuda::store_indices(indices, to)?)
}

/// See [`cuda::download`].
pub fn download<E: Copy + Default>(from: Slice<'_, E>) -> Result<Vec<E>> {
    Ok(cuda::download(from)?)
}

/// See [`cuda::upload`].
pub fn upload<E: Copy>(values: &[E], to: &SliceMut<'_, E>) -> Result<()> {
    Ok(cuda::upload(values, to)?)
}

/// See [`cuda::check_cudnn`].
#[cfg(feature = "cudnn")]
pub fn check_cudnn() -> Result<()> {
    Ok(cuda::check_cudnn()?)
}

/// See [`cuda::check_driver`].
pub fn check_driver() -> Result<()> {
    Ok(cuda::check_driver()?)
}
