//! Graphs that run.

use std::rc::Rc;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::Tensor;

use super::graph::{Graph, Node, Operation, Value};
use super::sizes::Sizes;
use crate::backend::Backend;
use crate::bridge::tensors::AnyTensor;
use crate::bridge::{Buffer, View};
use crate::error::{Error, Result};
use crate::kernels::args::attention::{AttentionOp, QkvOrder};
use crate::kernels::args::batch_norm::{Activation, BatchNorm2DOp, Input};
use crate::kernels::args::conv2d::Epilogue;
use crate::kernels::args::layer_norm::LayerNormOp;
use crate::kernels::args::linear::LinearShape;
use crate::profile::timed;

/// Winograd's algorithm transforms the weights at each call, which so few tiles of 4x4 pixels do not pay for.
const FEW_TILES: usize = 4;

/// A [`Graph`] on a device: inference, without gradients.
///
/// A convolution is fused with the residual sum and the ReLU that follow it. The memory of a value goes back to
/// the [pool](crate::free_buffers) after its last use.
#[derive(Debug)]
pub struct Inference<E: Dtype, D: Backend<E>> {
    dev: D,
    graph: Graph<E>,
    steps: Vec<Step<E, D>>,
    /// The step that is the last to read each value; the output's is never.
    last_use: Vec<usize>,
}

/// A node with what follows it.
#[derive(Debug)]
struct Step<E: Dtype, D: Backend<E>> {
    node: usize,
    /// Its weights, on the device, in the operation's order.
    weights: Vec<Buffer<E, D>>,
    /// What is added to a convolution's output.
    residual: Option<Value>,
    /// Whether ReLU comes last.
    relu: bool,
    /// The value that it writes.
    output: Value,
}

impl<E: Dtype, D: Backend<E>> Inference<E, D> {
    /// Uploads the weights of `graph`.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    pub fn new(dev: &D, graph: &Graph<E>) -> Result<Self> {
        let mut steps = Vec::new();
        let mut done = vec![false; graph.nodes().len()];
        let readers = Readers::of(graph);
        for (index, node) in graph.nodes().iter().enumerate() {
            if done[index] {
                continue;
            }
            let mut step = Step {
                node: index,
                weights: Vec::new(),
                residual: None,
                relu: false,
                output: Value(index + 1),
            };
            for weight in &node.weights {
                let buffer = dev.buffer_from_host(&weight.elements)?;
                step.weights.push(Buffer::from_dfdx(buffer));
            }
            if matches!(node.operation, Operation::Conv2D(_)) {
                step.take_along(graph, &readers, &mut done);
            }
            steps.push(step);
        }
        let mut last_use = vec![0; graph.nodes().len() + 1];
        for (at, step) in steps.iter().enumerate() {
            for value in graph.nodes()[step.node].inputs.iter().chain(&step.residual) {
                last_use[value.0] = at;
            }
        }
        last_use[graph.output().0] = usize::MAX;
        Ok(Self {
            dev: dev.clone(),
            graph: graph.without_elements(),
            steps,
            last_use,
        })
    }

    /// The output for `x`: logits (B, CLASSES) for images (B, C, H, W), say.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` does not fit the network, or the output `O`; [`Error::Device`] if memory runs out.
    pub fn run<S: Shape, O: Shape>(&self, x: &Tensor<S, E, D>) -> Result<Tensor<O, E, D>> {
        let input = match x.shape().concrete().as_ref() {
            &[b, c, h, w] => Sizes::Images([b, c, h, w]),
            &[b, n] => Sizes::Features([b, n]),
            other => {
                return Err(Error::shape(
                    "Inference",
                    "input",
                    "(B, C, H, W) or (B, N)",
                    other,
                ));
            }
        };
        let sizes = self.graph.sizes(input)?;
        let output = sizes[self.graph.output().0];
        let shape: O = shape_of(output)?;
        if output.elements() == 0 {
            return self.dev.try_zeros_like(&shape).map_err(Error::device);
        }
        let mut values: Vec<Option<Rc<Buffer<E, D>>>> = vec![None; sizes.len()];
        for (at, step) in self.steps.iter().enumerate() {
            let node = &self.graph.nodes()[step.node];
            let y = match &node.operation {
                // The same memory, which is the input's if there is none here.
                Operation::Flatten => values[node.inputs[0].0].clone(),
                _ => Some(Rc::new(self.compute(step, node, &sizes, &values, x)?)),
            };
            values[step.output.0] = y;
            for value in node.inputs.iter().chain(&step.residual) {
                if self.last_use[value.0] == at {
                    values[value.0] = None;
                }
            }
        }
        let mut tensor = self.dev.try_zeros_like(&shape).map_err(Error::device)?;
        let found = read(&values, x, self.graph.output())?;
        D::accumulate(D::view_new("Inference", &mut tensor)?, found)?;
        Ok(tensor)
    }
}

impl<E: Dtype, D: Backend<E>> Inference<E, D> {
    /// What a step puts out, with what it takes along.
    fn compute(
        &self,
        step: &Step<E, D>,
        node: &Node<E>,
        sizes: &[Sizes],
        values: &[Option<Rc<Buffer<E, D>>>],
        x: &dyn AnyTensor<E, D>,
    ) -> Result<Buffer<E, D>> {
        let value = |value| read(values, x, value);
        let input = sizes[node.inputs[0].0];
        let x = value(node.inputs[0])?;
        let weight = |i: usize| step.weights.get(i).map(Buffer::view);
        let (w, bias) = (weight(0), weight(1));
        let mut y = Buffer::take(&self.dev, sizes[step.output.0].elements())?;
        match (node.operation, w) {
            (Operation::Conv2D(op), Some(w)) => {
                let shape = node.conv(op, input)?;
                let [h, w_out] = shape.output();
                let tiles = shape.batch() * h.div_ceil(4) * w_out.div_ceil(4);
                let shape = shape.with_winograd(tiles > FEW_TILES);
                let then = Epilogue {
                    bias,
                    residual: step.residual.map(value).transpose()?,
                    activation: match step.relu {
                        true => Activation::ReLU,
                        false => Activation::Identity,
                    },
                };
                let fused = timed("convolution, forward", || {
                    D::conv2d_fused(&shape, x, w, then, y.view_mut())
                })?;
                if fused {
                    return Ok(y);
                }
                D::conv2d_forward(&shape, x, w, bias, y.view_mut())?;
            }
            (Operation::BatchNorm2D { eps }, Some(w)) => {
                let op = BatchNorm2DOp {
                    eps,
                    ..Default::default()
                };
                op.check()?;
                let dims = input.dims();
                let mut inv_std = Buffer::take(&self.dev, dims.channels)?;
                let [bias, mean, var] = [1, 2, 3].map(|i| step.weights[i].view());
                let norm = Input {
                    x,
                    residual: None,
                    weight: w,
                    bias,
                };
                let running = [mean, var];
                let (y, inv_std) = (y.view_mut(), inv_std.view_mut());
                D::batch_norm2d_eval(&op, dims, norm, running, y, inv_std)?;
            }
            (Operation::Linear, Some(w)) => {
                let sizes = &node.weights[0].sizes;
                let shape = LinearShape {
                    batch: input.as_slice()[0],
                    inputs: sizes[1],
                    outputs: sizes[0],
                };
                D::linear_forward(&shape, x, w, bias, y.view_mut())?;
            }
            (Operation::Add, _) => D::add_forward(x, value(node.inputs[1])?, y.view_mut())?,
            (Operation::ReLU, _) => D::relu_forward(x, y.view_mut())?,
            (Operation::MaxPool2D(window), _) => {
                let [.., h, w] = input.images()?;
                D::max_pool2d_forward(&window.op([h, w])?, x, y.view_mut(), None)?;
            }
            (Operation::AvgPool2D(window), _) => {
                let [.., h, w] = input.images()?;
                D::avg_pool2d_forward(&window.op([h, w])?, x, y.view_mut())?;
            }
            (Operation::GlobalAvgPool, _) => {
                let [.., h, w] = input.images()?;
                D::global_avg_pool2d_forward(h * w, x, y.view_mut())?;
            }
            (Operation::GELU, _) => D::gelu_forward(x, y.view_mut())?,
            (Operation::LayerNorm { eps }, Some(w)) => {
                let (op, dims) = (LayerNormOp { eps }, input.dims());
                op.check()?;
                let statistics = || Buffer::take(&self.dev, dims.batch * dims.plane);
                let (mut mean, mut inv_std) = (statistics()?, statistics()?);
                let bias = step.weights[1].view();
                let saved = [mean.view_mut(), inv_std.view_mut()];
                D::layer_norm_forward(&op, dims, x, w, bias, y.view_mut(), saved)?;
            }
            (Operation::PositionEmbedding, Some(w)) => {
                D::position_embedding_forward(input.dims(), x, w, y.view_mut())?;
            }
            (Operation::Attention { heads }, _) => {
                let dims = input.dims();
                let op = AttentionOp {
                    depth: dims.channels / 3 / heads,
                    positions: dims.plane,
                    order: QkvOrder::ByKind { heads },
                };
                let mut statistics = Buffer::take(&self.dev, dims.batch * heads * 2 * dims.plane)?;
                D::attention_forward(&op, x, y.view_mut(), statistics.view_mut())?;
            }
            (Operation::Flatten, _) | (_, None) => {
                return Err(Error::parameter(
                    "operation",
                    &node.path,
                    "one that computes",
                ));
            }
        }
        let residual = step.residual.map(value).transpose()?;
        if residual.is_none() && !step.relu {
            return Ok(y);
        }
        let mut z = Buffer::take(&self.dev, sizes[step.output.0].elements())?;
        match residual {
            Some(residual) if step.relu => D::add_relu_forward(y.view(), residual, z.view_mut())?,
            Some(residual) => D::add_forward(y.view(), residual, z.view_mut())?,
            None => D::relu_forward(y.view(), z.view_mut())?,
        }
        Ok(z)
    }
}

/// A value's elements; `x` is the input.
fn read<'a, E: Dtype, D: Backend<E>>(
    values: &'a [Option<Rc<Buffer<E, D>>>],
    x: &'a dyn AnyTensor<E, D>,
    value: Value,
) -> Result<View<'a, E, D>> {
    match &values[value.0] {
        Some(buffer) => Ok(buffer.view()),
        None => x.view("Inference"),
    }
}

/// The shape `S` of these sizes.
fn shape_of<S: Shape>(sizes: Sizes) -> Result<S> {
    let sizes = sizes.as_slice();
    let mut concrete = S::Concrete::default();
    let unfit = || Error::shape("Inference", "output", S::NUM_DIMS, sizes);
    if S::NUM_DIMS != sizes.len() {
        return Err(unfit());
    }
    for (i, &size) in sizes.iter().enumerate() {
        concrete[i] = size;
    }
    S::from_concrete(&concrete).ok_or_else(unfit)
}

/// Which nodes read a value.
struct Readers {
    uses: Vec<usize>,
    /// One of them, of each value.
    node: Vec<Option<usize>>,
}

impl Readers {
    fn of<E: Dtype>(graph: &Graph<E>) -> Self {
        let mut node = vec![None; graph.nodes().len() + 1];
        for (index, reader) in graph.nodes().iter().enumerate() {
            for value in &reader.inputs {
                node[value.0] = Some(index);
            }
        }
        Self {
            uses: graph.uses(),
            node,
        }
    }

    /// The node that alone reads a value.
    fn only(&self, value: Value) -> Option<usize> {
        self.node[value.0].filter(|_| self.uses[value.0] == 1)
    }
}

impl<E: Dtype, D: Backend<E>> Step<E, D> {
    /// Takes the sum and the ReLU along that follow, if nothing else reads what lies between.
    fn take_along(&mut self, graph: &Graph<E>, readers: &Readers, done: &mut [bool]) {
        if let Some(next) = readers.only(self.output) {
            let node = &graph.nodes()[next];
            let other = node.inputs.iter().find(|&&input| input != self.output);
            // The other term has to be there before.
            if let (Operation::Add, Some(other)) = (node.operation, other) {
                if other.0 < self.output.0 {
                    self.residual = Some(*other);
                    self.output = Value(next + 1);
                    done[next] = true;
                }
            }
        }
        if let Some(next) = readers.only(self.output) {
            if graph.nodes()[next].operation == Operation::ReLU {
                self.relu = true;
                self.output = Value(next + 1);
                done[next] = true;
            }
        }
    }
}
