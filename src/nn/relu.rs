//! The ReLU layer.

use dfdx::dtypes::Dtype;
use dfdx::nn::{Module, NonMutableModule, ZeroSizedModule};
use dfdx::shapes::Shape;
use dfdx::tensor::{Tape, Tensor};

use super::plain_layer::plain_layer;
use crate::backend::Backend;
use crate::error::Result;
use crate::inference::{Graph, Operation, ToGraph, Value};
use crate::ops::relu::try_relu;

/// max(x, 0), element by element: dfdx's `ReLU`, faster on the CPU. See [`try_relu`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReLU;

impl ZeroSizedModule for ReLU {}
impl NonMutableModule for ReLU {}

impl<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>> Module<Tensor<S, E, D, T>> for ReLU {
    type Output = Tensor<S, E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, x: Tensor<S, E, D, T>) -> Result<Self::Output, D::Err> {
        try_relu(x).map_err(D::device_error)
    }
}

plain_layer!([] ReLU);

impl<E: Dtype> ToGraph<E> for ReLU {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        graph.push(path, Operation::ReLU, Vec::new(), &[x])
    }
}
