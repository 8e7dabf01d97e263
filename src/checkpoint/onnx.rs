//! Files for ONNX runtimes.

mod composed;
mod messages;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use composed::Composed;
use messages::{float, int, ints, node_message, tensor, value_info};

use super::element::StoredElement;
use super::protobuf::Message;
use super::{write_file, Metadata};
use crate::error::{Error, Result};
use crate::inference::{Graph, Node, Operation, PoolWindow, Sizes, Value, Weight};

/// The format's version, and that of its operations: what runtimes have read since 2021.
const IR_VERSION: u64 = 7;
const OPERATIONS: u64 = 13;
/// What a protocol buffer can hold.
const LARGEST: usize = i32::MAX as usize;

/// Writes a network as an [ONNX](https://onnx.ai) file, which onnxruntime and others run: from `input`, images
/// (batch, C, H, W), to `output`, the logits (batch, CLASSES) of a classifier. The batch can be any; `input` says
/// C, H and W. Weights have the names of checkpoints. `metadata` goes into the file's `metadata_props`.
///
/// ```
/// use ssprop::checkpoint::{save_onnx, Metadata};
/// use ssprop::inference::Graph;
/// use ssprop::prelude::*;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("net.onnx");
/// let net = Cpu::default().build_module::<Cnn<3, 10, 1>, f32>();
/// let graph = Graph::of(&net)?.fold_batch_norms();
/// save_onnx(&path, &graph, [1, 28, 28], &Metadata::new())?;
/// # Ok::<(), ssprop::Error>(())
/// ```
///
/// ```python
/// import numpy, onnxruntime
///
/// session = onnxruntime.InferenceSession("net.onnx")
/// (logits,) = session.run(None, {"input": numpy.zeros((5, 1, 28, 28), "float32")})
/// ```
///
/// # Errors
/// [`Error::Shape`] if images of this size do not fit the network; [`Error::DuplicateName`] if two weights have one
/// name; [`Error::Format`] for a network of 2 GiB or more, which the format cannot hold; [`Error::Io`].
pub fn save_onnx<E: StoredElement>(
    path: impl AsRef<Path>,
    graph: &Graph<E>,
    input: [usize; 3],
    metadata: &Metadata,
) -> Result<()> {
    let path = path.as_ref();
    let [c, h, w] = input;
    let sizes = graph.sizes(Sizes::Images([1, c, h, w]))?;
    let weights = graph.nodes().iter().flat_map(|node| &node.weights);
    let bytes = weights.map(|weight| size_of_val(&weight.elements[..]));
    if bytes.sum::<usize>() >= LARGEST {
        return Err(Error::Format {
            path: path.to_owned(),
            what: "an ONNX file holds less than 2 GiB of weights".into(),
        });
    }
    let mut names = Names::of(graph);
    let output = sizes[graph.output().index()];
    let mut body = Message::default().bytes(2, "network");
    let mut constants = BTreeMap::new();
    for node in graph.nodes() {
        let input = sizes[node.inputs[0].index()];
        let composed = names.nodes::<E>(node, input);
        for message in composed.nodes {
            body = body.message(1, message);
        }
        constants.extend(composed.constants);
    }
    let mut stored = BTreeSet::new();
    for node in graph.nodes() {
        for weight in &node.weights {
            if !stored.insert(&weight.name) {
                let name = weight.name.clone();
                return Err(Error::DuplicateName { name });
            }
            let input = sizes[node.inputs[0].index()];
            body = body.message(5, tensor(&as_stored(node, weight, input)));
        }
    }
    for constant in constants.into_values() {
        body = body.message(5, constant);
    }
    body = body
        .message(11, value_info::<E>(INPUT, &sizes[0]))
        .message(12, value_info::<E>(OUTPUT, &output));
    let mut model = Message::default()
        .int(1, IR_VERSION)
        .bytes(2, "ssprop")
        .bytes(3, env!("CARGO_PKG_VERSION"))
        .message(7, body)
        .message(8, Message::default().bytes(1, "").int(2, OPERATIONS));
    for (key, value) in metadata {
        model = model.message(14, Message::default().bytes(1, key).bytes(2, value));
    }
    write_file(path, &model.into_bytes())
}

const INPUT: &str = "input";
const OUTPUT: &str = "output";

/// What the file calls the values, the input first.
struct Names {
    values: Vec<String>,
    /// The nodes so far.
    done: usize,
}

impl Names {
    fn of<E: StoredElement>(graph: &Graph<E>) -> Self {
        let named = graph.nodes().iter().enumerate().map(|(i, node)| {
            match i + 1 == graph.output().index() {
                true => OUTPUT.to_owned(),
                // A block has several values without a name of their own.
                false => format!("{}/{}_{i}", node.path, operation(node.operation).0),
            }
        });
        Self {
            values: [INPUT.to_owned()].into_iter().chain(named).collect(),
            done: 0,
        }
    }

    /// The next node, whose input has these sizes, as those that it is in ONNX.
    fn nodes<E: StoredElement>(&mut self, node: &Node<E>, input: Sizes) -> Composed {
        let name = |value: &Value| self.values[value.index()].as_str();
        let inputs = node.inputs.iter().map(name);
        let inputs: Vec<&str> = inputs
            .chain(node.weights.iter().map(|w| w.name.as_str()))
            .collect();
        self.done += 1;
        let output = &self.values[self.done];
        let (kind, attributes) = operation(node.operation);
        let mut composed = Composed::default();
        match (node.operation, &inputs[..]) {
            (Operation::GELU, [x, ..]) => return composed::gelu::<E>(x, output),
            (Operation::LayerNorm { eps }, &[x, weight, bias]) => {
                return composed::layer_norm::<E>(eps, [x, weight, bias], output);
            }
            (Operation::Attention { heads }, [x, ..]) => {
                // As the sizes of what it puts out have said.
                if let Ok(sizes) = input.images() {
                    return composed::attention::<E>(heads, sizes, x, output);
                }
            }
            (Operation::GlobalAvgPool, _) => {
                // ONNX keeps a row and a column.
                let pooled = format!("{output}/image");
                let (flatten, axis) = operation(Operation::Flatten);
                composed.nodes = vec![
                    node_message(kind, &inputs, &[&pooled], attributes),
                    node_message(flatten, &[&pooled], &[output], axis),
                ];
                return composed;
            }
            _ => {}
        }
        composed.nodes = vec![node_message(kind, &inputs, &[output], attributes)];
        composed
    }
}

/// A weight as ONNX broadcasts it over an input of these sizes.
fn as_stored<E: StoredElement>(node: &Node<E>, weight: &Weight<E>, input: Sizes) -> Weight<E> {
    let mut weight = weight.clone();
    match (node.operation, input) {
        (Operation::LayerNorm { .. }, Sizes::Images(_)) => weight.sizes.extend([1, 1]),
        (Operation::PositionEmbedding, Sizes::Images([_, c, h, w])) => {
            // From (1, N, C) to (1, C, H, W).
            let elements =
                (0..c).flat_map(|c| weight.elements.iter().skip(c).step_by(weight.sizes[2]));
            weight.elements = elements.copied().collect();
            weight.sizes = vec![1, c, h, w];
        }
        _ => {}
    }
    weight
}

/// An operation's name, and its attributes.
fn operation(operation: Operation) -> (&'static str, Vec<Message>) {
    match operation {
        Operation::Conv2D(op) => (
            "Conv",
            vec![
                ints("dilations", [op.dilation; 2]),
                int("group", op.groups),
                ints("kernel_shape", [op.kernel; 2]),
                ints("pads", [op.padding; 4]),
                ints("strides", [op.stride; 2]),
            ],
        ),
        Operation::BatchNorm2D { eps } => ("BatchNormalization", vec![float("epsilon", eps)]),
        Operation::Linear => ("Gemm", vec![int("transB", 1)]),
        Operation::ReLU => ("Relu", vec![]),
        Operation::Add => ("Add", vec![]),
        Operation::MaxPool2D(window) => ("MaxPool", pool(window)),
        Operation::AvgPool2D(window) => {
            let padding = int("count_include_pad", 1);
            ("AveragePool", [pool(window), vec![padding]].concat())
        }
        Operation::GlobalAvgPool => ("GlobalAveragePool", vec![]),
        Operation::Flatten => ("Flatten", vec![int("axis", 1)]),
        Operation::PositionEmbedding => ("Add", vec![]),
        // What they are called that ONNX has not as one.
        Operation::LayerNorm { .. } => ("LayerNorm", vec![]),
        Operation::GELU => ("Gelu", vec![]),
        Operation::Attention { .. } => ("Attention", vec![]),
    }
}

fn pool(window: PoolWindow) -> Vec<Message> {
    vec![
        ints("kernel_shape", [window.kernel; 2]),
        ints("pads", [window.padding; 4]),
        ints("strides", [window.stride; 2]),
    ]
}
