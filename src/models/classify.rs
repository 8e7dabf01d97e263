//! The layer that tells the classes apart.

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::Linear;
use dfdx::nn::Module;
use dfdx::shapes::{Const, Dim, HasShape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::ops::linear::linear;
use crate::ops::Backward;

/// dfdx's linear layer of x (B, I), or ours if B is 0, where dfdx panics.
pub(super) fn classify<const I: usize, const O: usize, B, E, D, T>(
    layer: &Linear<I, O, E, D>,
    x: Tensor<(B, Const<I>), E, D, T>,
) -> Result<Tensor<(B, Const<O>), E, D, T>>
where
    B: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    if x.shape().0.size() == 0 {
        let (weight, bias) = (&layer.weight, Some(&layer.bias));
        return linear(x, weight, bias, Backward::default(), None);
    }
    layer.try_forward(x).map_err(Error::device)
}
