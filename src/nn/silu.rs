//! The SiLU layer.

use dfdx::dtypes::Dtype;
use dfdx::nn::{Module, NonMutableModule, ZeroSizedModule};
use dfdx::shapes::Shape;
use dfdx::tensor::{Tape, Tensor};

use super::plain_layer::plain_layer;
use crate::backend::Backend;
use crate::ops::silu::try_silu;

/// x / (1 + e^-x), element by element (arXiv 1702.03118). See [`try_silu`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiLU;

impl ZeroSizedModule for SiLU {}
impl NonMutableModule for SiLU {}

impl<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>> Module<Tensor<S, E, D, T>> for SiLU {
    type Output = Tensor<S, E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, x: Tensor<S, E, D, T>) -> Result<Self::Output, D::Err> {
        try_silu(x).map_err(D::device_error)
    }
}

plain_layer!([] SiLU);
