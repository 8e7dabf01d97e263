//! Batch norms brought into the convolutions before them.

use dfdx::dtypes::Dtype;

use super::graph::{join, Graph, Node, Operation, Value, Weight};

impl<E: Dtype> Graph<E> {
    /// The same without the batch norms that follow a convolution: with s = weight / sqrt(var + eps) of each
    /// channel the convolution's weight becomes s times as large, and its bias s (bias - mean) + the norm's.
    /// Computed in f64, and rounded once. A norm whose convolution has another use stays.
    pub fn fold_batch_norms(&self) -> Self {
        let uses = self.uses();
        let mut nodes: Vec<Node<E>> = Vec::with_capacity(self.nodes().len());
        // Each value as one of the new graph.
        let mut now = vec![Value(0)];
        for node in self.nodes() {
            let inputs: Vec<Value> = node.inputs.iter().map(|value| now[value.0]).collect();
            let conv = inputs[0].node().map(|index| &mut nodes[index]);
            if let (Operation::BatchNorm2D { .. }, Some(conv)) = (&node.operation, conv) {
                if uses[node.inputs[0].0] == 1 && fold(conv, node) {
                    now.push(inputs[0]);
                    continue;
                }
            }
            nodes.push(Node {
                inputs,
                ..node.clone()
            });
            now.push(Value(nodes.len()));
        }
        Self::with_nodes(nodes, now[self.output().0])
    }
}

/// Brings a norm into the node before it, if that is a convolution.
fn fold<E: Dtype>(conv: &mut Node<E>, norm: &Node<E>) -> bool {
    let Operation::BatchNorm2D { eps } = norm.operation else {
        return false;
    };
    let channels = norm.weights[0].elements.len();
    if !matches!(conv.operation, Operation::Conv2D(_)) || conv.weights[0].sizes[0] != channels {
        return false;
    }
    let value = |weight: &Weight<E>, c: usize| weight.elements[c].to_f64().unwrap_or(f64::NAN);
    let rounded = |value: f64| E::from_f64(value).unwrap_or_default();
    let old_bias = conv.weights.get(1).cloned();
    let [factor, term, mean, var] = [0, 1, 2, 3].map(|i| &norm.weights[i]);
    let weight = &mut conv.weights[0].elements;
    let filter_len = weight.len() / channels;
    let mut bias = Vec::with_capacity(channels);
    for (c, filter) in weight.chunks_exact_mut(filter_len).enumerate() {
        let scale = value(factor, c) / (value(var, c) + eps).sqrt();
        for w in filter {
            *w = rounded(w.to_f64().unwrap_or(f64::NAN) * scale);
        }
        let centred = old_bias.as_ref().map_or(0.0, |bias| value(bias, c)) - value(mean, c);
        bias.push(rounded(centred * scale + value(term, c)));
    }
    conv.weights.truncate(1);
    conv.weights.push(Weight {
        name: join(&conv.path, "bias"),
        sizes: vec![channels],
        elements: bias,
    });
    true
}
