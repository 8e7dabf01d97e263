//! The list of operations.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Storage, Tensor};

use crate::bridge::values;
use crate::error::{Error, Result};
use crate::kernels::args::batch_norm::Activation;
use crate::kernels::args::conv2d::Conv2DOp;

/// A network's forward pass in evaluation mode: operations on images (B, C, H, W) and features (B, N), each
/// with its weights, in an order in which they can be computed.
///
/// The sizes of its input, but for the channels, are those that it is [run](super::Inference::run) with.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph<E> {
    nodes: Vec<Node<E>>,
    pub(super) output: Value,
}

/// The input of a [`Graph`], or what one of its nodes puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(pub(super) usize);

impl Value {
    /// The node that puts it out; `None` for the input.
    pub fn node(self) -> Option<usize> {
        self.0.checked_sub(1)
    }

    /// Its place among the graph's values, of which the input is the first.
    pub(crate) fn index(self) -> usize {
        self.0
    }

    /// Itself: what hidden tensors have, of which networks are written. There is no tape here.
    pub(crate) fn with_empty_tape(self) -> Self {
        self
    }
}

/// An operation of a [`Graph`].
#[derive(Clone, Debug, PartialEq)]
pub struct Node<E> {
    /// The path of the layer that it is a part of, as in checkpoints.
    pub path: String,
    /// What it computes.
    pub operation: Operation,
    /// Its weights, in the order that the [operation](Operation) says.
    pub weights: Vec<Weight<E>>,
    /// Of what: two values for a sum, one for all others.
    pub inputs: Vec<Value>,
}

/// What a node computes, of images (B, C, H, W) or features (B, N).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// (B, C_in, H, W) to (B, C_out, H', W'). Weights: (C_out, C_in / groups, K, K), and perhaps a bias (C_out).
    Conv2D(Conv2DOp),
    /// weight (x - mean) / sqrt(var + eps) + bias for each channel of (B, C, H, W). Weights: weight, bias,
    /// mean and var, (C) each.
    BatchNorm2D {
        /// Added to the variance.
        eps: f64,
    },
    /// (B, I) to (B, O). Weights: (O, I), and perhaps a bias (O).
    Linear,
    /// max(x, 0), element by element.
    ReLU,
    /// The sum of two values of one shape.
    Add,
    /// The maximum of each window, without the padding: (B, C, H, W) to (B, C, H', W').
    MaxPool2D(PoolWindow),
    /// The average of each window, in which padding counts as zeros: (B, C, H, W) to (B, C, H', W').
    AvgPool2D(PoolWindow),
    /// The average of each channel: (B, C, H, W) to (B, C).
    GlobalAvgPool,
    /// (B, C, H, W) to (B, C H W).
    Flatten,
    /// weight (x - mean) / sqrt(var + eps) + bias, mean and variance over the channels of each position of
    /// (B, C, H, W), or of (B, C). Weights: weight and bias, (C) each.
    LayerNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// x times the share of the standard normal distribution below x, element by element.
    GELU,
    /// x + embedding of each position of (B, C, H, W). Weight: (1, H W, C).
    PositionEmbedding,
    /// Self-attention over the positions: (B, 3 C, H, W), the queries of all heads, then their keys, then their
    /// values, to (B, C, H, W).
    Attention {
        /// They divide C.
        heads: usize,
    },
}

/// A pooling's square window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolWindow {
    /// Its height and width.
    pub kernel: usize,
    /// Its step.
    pub stride: usize,
    /// Rows and columns of padding at each edge of the image.
    pub padding: usize,
}

/// A weight, in the host's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight<E> {
    /// The tensor's name, as in checkpoints.
    pub name: String,
    /// Its sizes.
    pub sizes: Vec<usize>,
    /// Its elements, row-major.
    pub elements: Vec<E>,
}

impl<E: Dtype> Weight<E> {
    /// The tensor `name` of the layer at `path`.
    pub fn of<S: Shape, D: Storage<E>>(path: &str, name: &str, tensor: &Tensor<S, E, D>) -> Self {
        Self {
            name: join(path, name),
            sizes: tensor.shape().concrete().into(),
            elements: values(tensor),
        }
    }
}

impl Operation {
    /// Whether its weights are such.
    fn takes<E>(&self, weights: &[Weight<E>]) -> bool {
        let whole = |weight: &Weight<E>| {
            let sizes = weight.sizes.iter();
            sizes.product::<usize>() == weight.elements.len() && !weight.elements.is_empty()
        };
        let sizes: Vec<&[usize]> = weights.iter().map(|weight| &weight.sizes[..]).collect();
        let fit = match (self, &sizes[..]) {
            (Self::Conv2D(op), [[c_out, _, h, w], bias @ ..]) => {
                [*h, *w] == [op.kernel; 2]
                    && bias.iter().all(|bias| **bias == [*c_out])
                    && bias.len() < 2
            }
            (Self::Linear, [[o, _], bias @ ..]) => {
                bias.iter().all(|bias| **bias == [*o]) && bias.len() < 2
            }
            (Self::BatchNorm2D { .. }, [first @ [_], others @ ..]) => {
                others.len() == 3 && others.iter().all(|other| other == first)
            }
            (Self::LayerNorm { .. }, [weight @ [_], bias]) => weight == bias,
            (Self::PositionEmbedding, [[1, _, _]]) => true,
            (Self::Conv2D(_) | Self::Linear | Self::BatchNorm2D { .. }, _) => false,
            (Self::LayerNorm { .. } | Self::PositionEmbedding, _) => false,
            (_, weights) => weights.is_empty(),
        };
        fit && weights.iter().all(whole)
    }
}

/// The path of a part.
pub(super) fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

impl<E: Dtype> Graph<E> {
    /// The operations, each after those of its inputs.
    pub fn nodes(&self) -> &[Node<E>] {
        &self.nodes
    }

    /// What it puts out.
    pub fn output(&self) -> Value {
        self.output
    }

    /// Adds an operation of the layer at `path`, with its weights.
    ///
    /// # Errors
    /// [`Error::Parameter`] for another number of inputs or weights than the operation has, for weights of
    /// other sizes, for no heads, and for inputs that another graph has.
    pub fn push(
        &mut self,
        path: &str,
        operation: Operation,
        weights: Vec<Weight<E>>,
        inputs: &[Value],
    ) -> Result<Value> {
        let wanted = if operation == Operation::Add { 2 } else { 1 };
        if inputs.len() != wanted || inputs.iter().any(|input| input.0 > self.nodes.len()) {
            return Err(Error::parameter(
                "inputs of an operation",
                format_args!("{inputs:?} at `{path}`"),
                "earlier values of the graph, two for a sum and one for all others",
            ));
        }
        if let Operation::Attention { heads: 0 } = operation {
            return Err(Error::parameter("heads", 0, "at least 1"));
        }
        if !operation.takes(&weights) {
            let sizes: Vec<_> = weights.iter().map(|weight| &weight.sizes).collect();
            return Err(Error::parameter(
                "sizes of weights",
                format_args!("{sizes:?} at `{path}`"),
                "those that the operation says, and of as many elements",
            ));
        }
        self.nodes.push(Node {
            path: path.to_owned(),
            operation,
            weights,
            inputs: inputs.to_vec(),
        });
        Ok(Value(self.nodes.len()))
    }

    /// Adds `activation` of `x`, or of its sum with a `residual`.
    pub(crate) fn add_and_activate(
        &mut self,
        path: &str,
        x: Value,
        residual: Option<Value>,
        activation: Activation,
    ) -> Result<Value> {
        let x = match residual {
            Some(residual) => self.push(path, Operation::Add, Vec::new(), &[x, residual])?,
            None => x,
        };
        match activation {
            Activation::Identity => Ok(x),
            Activation::ReLU => self.push(path, Operation::ReLU, Vec::new(), &[x]),
        }
    }

    /// The same with other nodes.
    pub(super) fn with_nodes(nodes: Vec<Node<E>>, output: Value) -> Self {
        Self { nodes, output }
    }

    /// The same without the weights' elements.
    pub(super) fn without_elements(&self) -> Self {
        let mut graph = self.clone();
        let weights = graph.nodes.iter_mut().flat_map(|node| &mut node.weights);
        weights.for_each(|weight| weight.elements = Vec::new());
        graph
    }

    /// How many operations each value is an input of; the graph's output counts as one.
    pub(super) fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len() + 1];
        let inputs = self.nodes.iter().flat_map(|node| &node.inputs);
        for value in inputs.chain([&self.output]) {
            uses[value.0] += 1;
        }
        uses
    }
}
