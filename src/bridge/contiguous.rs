//! Tensors that are permuted or broadcast views.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{PutTape, SplitTape, Tape, Tensor};
use dfdx::tensor_ops::{Device, ReshapeTo};

use crate::error::{Error, Result};

/// The tensor, or if it is a permuted or broadcast view a copy, whose gradient `tape` passes on.
///
/// # Errors
/// [`Error::Device`] if memory runs out.
pub fn contiguous<S, E, D, T>(tensor: &Tensor<S, E, D>, tape: T) -> Result<(Tensor<S, E, D>, T)>
where
    S: Shape,
    E: Dtype,
    D: Device<E>,
    T: Tape<E, D>,
{
    let tensor = tensor.clone().put_tape(T::default());
    if tensor.shape().num_elements() == 0 {
        // dfdx's copy looks at the first element.
        return Ok((tensor.split_tape().0, tape));
    }
    // The same tensor, and nothing on its tape, if it is contiguous.
    let copy = tensor.try_contiguous().map_err(Error::device)?;
    let (copy, copied) = copy.split_tape();
    Ok((copy, tape.merge(copied)))
}

/// [`contiguous`] of a tensor that may be absent.
///
/// # Errors
/// As there.
pub fn contiguous_option<S, E, D, T>(
    tensor: Option<&Tensor<S, E, D>>,
    tape: T,
) -> Result<(Option<Tensor<S, E, D>>, T)>
where
    S: Shape,
    E: Dtype,
    D: Device<E>,
    T: Tape<E, D>,
{
    match tensor {
        Some(tensor) => {
            let (tensor, tape) = contiguous(tensor, tape)?;
            Ok((Some(tensor), tape))
        }
        None => Ok((None, tape)),
    }
}
