//! The layer that tells the classes apart.

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::Linear;
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::error::Result;
use crate::models::forward::HiddenImages;
use crate::ops::linear::linear;
use crate::ops::pool::global_avg_pool2d_hidden;
use crate::ops::SparseBackward;

/// The logits of images: of each channel's average.
pub(super) fn classify_images<const I: usize, const O: usize, B, H, W, E, D, T>(
    layer: &Linear<I, O, E, D>,
    x: HiddenImages<B, I, H, W, E, D, T>,
) -> Result<Tensor<(B, Const<O>), E, D, T>>
where
    B: Dim,
    H: Dim,
    W: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    classify(layer, global_avg_pool2d_hidden(x)?.into_tensor()?)
}

/// x (B, I) by the weight and the bias of dfdx's layer, whose own arithmetic panics if B is 0, and on a GPU
/// allocates in every step.
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
    let (weight, bias) = (&layer.weight, Some(&layer.bias));
    linear(x, weight, bias, SparseBackward::default(), None)
}
