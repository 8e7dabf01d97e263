//! Host values to a tensor, and a tensor's values to the host.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Storage, Tensor, ZerosTensor};

use super::host::HostAccess;
use crate::error::{Error, Result};

/// A tensor of these values, of which there are as many as the shape has. On a GPU they travel while it works.
///
/// dfdx's `try_tensor_from_vec` makes the vector the tensor's memory. If the device's cache of freed
/// tensors is on, it gets each such vector in the end, and nobody takes one out of it: it grows with
/// every step.
///
/// # Errors
/// [`Error::Shape`] for another number of values; [`Error::Device`] if memory runs out.
pub fn upload<S: Shape, E: Dtype, D: ZerosTensor<E> + HostAccess<E>>(
    dev: &D,
    shape: S,
    values: &[E],
) -> Result<Tensor<S, E, D>> {
    if shape.num_elements() != values.len() {
        return Err(Error::shape("upload", "elements", shape, values.len()));
    }
    let mut tensor = dev.try_zeros_like(&shape).map_err(Error::device)?;
    D::write(values, D::view_new("upload", &mut tensor)?)?;
    Ok(tensor)
}

/// A tensor's values in row-major order. (dfdx's `as_vec` looks at the first of none in an empty one.)
pub fn values<S: Shape, E: Dtype, D: Storage<E>, T>(tensor: &Tensor<S, E, D, T>) -> Vec<E> {
    match tensor.shape().num_elements() {
        0 => Vec::new(),
        _ => tensor.as_vec(),
    }
}
