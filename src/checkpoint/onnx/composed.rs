//! Operations that are several in ONNX (those of version 13, which has neither GELU nor layer norm nor attention).

use std::f64::consts::SQRT_2;

use super::messages::{data_type, int, ints, node_message};
use crate::checkpoint::element::StoredElement;
use crate::checkpoint::protobuf::Message;

/// The data type of sizes.
const INT64: u64 = 7;

/// `NodeProto`s, and `TensorProto`s of the numbers that they need beside weights, by name.
#[derive(Default)]
pub(super) struct Composed {
    pub(super) nodes: Vec<Message>,
    pub(super) constants: Vec<(String, Message)>,
    output: String,
}

impl Composed {
    fn of(output: &str) -> Self {
        Self {
            output: output.to_owned(),
            ..Self::default()
        }
    }

    /// Adds an operation; the name of what it puts out.
    fn then(&mut self, kind: &str, inputs: &[&str], attributes: Vec<Message>) -> String {
        let output = format!("{}/{}_{}", self.output, kind, self.nodes.len());
        self.put(kind, inputs, &[&output], attributes);
        output
    }

    /// Adds the last operation.
    fn last(mut self, kind: &str, inputs: &[&str]) -> Self {
        let output = self.output.clone();
        self.put(kind, inputs, &[&output], Vec::new());
        self
    }

    fn put(&mut self, kind: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Message>) {
        let node = node_message(kind, inputs, outputs, attributes);
        self.nodes.push(node);
    }

    /// A number; its name.
    fn number<E: StoredElement>(&mut self, value: f64) -> String {
        let name = format!("{value}");
        let mut raw = Vec::new();
        E::encode(&[E::from_f64(value).unwrap_or_default()], &mut raw);
        let tensor = Message::default().int(2, data_type::<E>());
        let tensor = tensor.bytes(8, &name).bytes(9, raw);
        self.constants.push((name.clone(), tensor));
        name
    }

    /// Sizes for a new shape, in which 0 is the size as it is; their name.
    fn sizes(&mut self, sizes: [usize; 4]) -> String {
        let name = format!("{sizes:?}");
        let raw: Vec<u8> = sizes
            .iter()
            .flat_map(|&size| (size as i64).to_le_bytes())
            .collect();
        let tensor = Message::default()
            .ints(1, [sizes.len() as u64])
            .int(2, INT64);
        let tensor = tensor.bytes(8, &name).bytes(9, raw);
        self.constants.push((name.clone(), tensor));
        name
    }
}

/// y = x (1 + erf(x / sqrt(2))) / 2
pub(super) fn gelu<E: StoredElement>(x: &str, y: &str) -> Composed {
    let mut to = Composed::of(y);
    let [scale, one, half] = [1.0 / SQRT_2, 1.0, 0.5].map(|value| to.number::<E>(value));
    let scaled = to.then("Mul", &[x, &scale], Vec::new());
    let erf = to.then("Erf", &[&scaled], Vec::new());
    let sum = to.then("Add", &[&erf, &one], Vec::new());
    let product = to.then("Mul", &[&sum, x], Vec::new());
    to.last("Mul", &[&product, &half])
}

/// y = weight (x - mean) / sqrt(var + eps) + bias, mean and var over the second of x's sizes.
pub(super) fn layer_norm<E: StoredElement>(
    eps: f64,
    [x, weight, bias]: [&str; 3],
    y: &str,
) -> Composed {
    let mut to = Composed::of(y);
    let eps = to.number::<E>(eps);
    let mean = |to: &mut Composed, of: &str| to.then("ReduceMean", &[of], vec![ints("axes", [1])]);
    let average = mean(&mut to, x);
    let centred = to.then("Sub", &[x, &average], Vec::new());
    let squares = to.then("Mul", &[&centred, &centred], Vec::new());
    let variance = mean(&mut to, &squares);
    let sum = to.then("Add", &[&variance, &eps], Vec::new());
    let deviation = to.then("Sqrt", &[&sum], Vec::new());
    let normalised = to.then("Div", &[&centred, &deviation], Vec::new());
    let scaled = to.then("Mul", &[&normalised, weight], Vec::new());
    to.last("Add", &[&scaled, bias])
}

/// For each head of d channels: S = (N, d) x (d, N), P = softmax(S / sqrt(d)), y = (d, N) x (N, N); x is (B, 3 C, H, W),
/// the queries of all heads, their keys, their values, y (B, C, H, W).
pub(super) fn attention<E: StoredElement>(
    heads: usize,
    [_, channels, h, w]: [usize; 4],
    x: &str,
    y: &str,
) -> Composed {
    let mut to = Composed::of(y);
    let depth = channels / 3 / heads.max(1);
    let parts = to.sizes([0, 3 * heads, depth, h * w]);
    let images = to.sizes([0, channels / 3, h, w]);
    let scale = to.number::<E>(1.0 / (depth as f64).sqrt());
    let transposed = || vec![ints("perm", [0, 1, 3, 2])];
    let heads = to.then("Reshape", &[x, &parts], Vec::new());
    let [q, k, v] = ["queries", "keys", "values"].map(|name| format!("{y}/{name}"));
    to.put("Split", &[&heads], &[&q, &k, &v], vec![int("axis", 1)]);
    let q = to.then("Transpose", &[&q], transposed());
    let scores = to.then("MatMul", &[&q, &k], Vec::new());
    let scores = to.then("Mul", &[&scores, &scale], Vec::new());
    let weights = to.then("Softmax", &[&scores], vec![int("axis", 3)]);
    let weights = to.then("Transpose", &[&weights], transposed());
    let mixed = to.then("MatMul", &[&v, &weights], Vec::new());
    to.last("Reshape", &[&mixed, &images])
}
