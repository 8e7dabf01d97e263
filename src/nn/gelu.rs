//! The GELU layer.

use dfdx::dtypes::Dtype;
use dfdx::nn::{Module, NonMutableModule, ZeroSizedModule};
use dfdx::shapes::Shape;
use dfdx::tensor::{Tape, Tensor};

use super::plain_layer::plain_layer;
use crate::backend::Backend;
use crate::error::Result;
use crate::inference::{Graph, Operation, ToGraph, Value};
use crate::ops::gelu::try_gelu;

/// x times the share of the standard normal distribution below x, element by element (arXiv 1606.08415):
/// the exact form, by erf. See [`try_gelu`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GELU;

impl ZeroSizedModule for GELU {}
impl NonMutableModule for GELU {}

impl<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>> Module<Tensor<S, E, D, T>> for GELU {
    type Output = Tensor<S, E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, x: Tensor<S, E, D, T>) -> Result<Self::Output, D::Err> {
        try_gelu(x).map_err(D::device_error)
    }
}

impl<E: Dtype> ToGraph<E> for GELU {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        graph.push(path, Operation::GELU, Vec::new(), &[x])
    }
}

plain_layer!([] GELU);
