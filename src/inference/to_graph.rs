//! What has a graph.

use dfdx::dtypes::Dtype;

use super::{Graph, Value};
use crate::error::Result;

/// A layer or a network that can be written as operations of a [`Graph`], in evaluation mode: of this crate
/// the convolutions, linear layers, batch norms, ReLU and pools, what is made of them ([`models`](crate::models)'
/// classifiers, tuples, lists, residual branches), and dfdx's of the same kinds.
///
/// A network of one's own passes the value on from layer to layer:
///
/// ```
/// use ssprop::inference::{Graph, Operation, ToGraph, Value};
/// use ssprop::nn::modules::{BatchNorm2D, SparseConv2D};
/// use ssprop::prelude::{Cpu, Dtype};
///
/// struct Block {
///     conv: SparseConv2D<8, 8, 3, 1, 1, 1, 1, f32, Cpu>,
///     bn: BatchNorm2D<8, f32, Cpu>,
/// }
///
/// impl ToGraph<f32> for Block {
///     fn add_to(&self, graph: &mut Graph<f32>, path: &str, x: Value) -> ssprop::Result<Value> {
///         let y = self.conv.add_to(graph, &format!("{path}.conv"), x)?;
///         let y = self.bn.add_to(graph, &format!("{path}.bn"), y)?;
///         graph.push(path, Operation::Add, Vec::new(), &[x, y])
///     }
/// }
/// ```
pub trait ToGraph<E> {
    /// Adds what it computes of `x`, as the part at `path` of the network, and returns what that is.
    ///
    /// # Errors
    /// As [`Graph::push`].
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value>;
}

impl<E: Dtype> Graph<E> {
    /// What `network` computes.
    ///
    /// # Errors
    /// Those of its layers.
    pub fn of<M: ToGraph<E>>(network: &M) -> Result<Self> {
        let mut graph = Self::with_nodes(Vec::new(), Value(0));
        graph.output = network.add_to(&mut graph, "", Value(0))?;
        Ok(graph)
    }
}
