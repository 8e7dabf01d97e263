//! ONNX's messages.

use crate::checkpoint::element::StoredElement;
use crate::checkpoint::protobuf::Message;
use crate::inference::{Sizes, Weight};

/// `AttributeProto`s, whose field 20 says of what type they are.
pub(super) fn float(name: &str, value: f64) -> Message {
    Message::default()
        .bytes(1, name)
        .float(2, value as f32)
        .int(20, 1)
}

pub(super) fn int(name: &str, value: usize) -> Message {
    Message::default()
        .bytes(1, name)
        .int(3, value as u64)
        .int(20, 2)
}

pub(super) fn ints<const N: usize>(name: &str, values: [usize; N]) -> Message {
    let values = values.map(|value| value as u64);
    Message::default().bytes(1, name).ints(8, values).int(20, 7)
}

/// `NodeProto`
pub(super) fn node_message(
    kind: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Vec<Message>,
) -> Message {
    let mut message = Message::default();
    for input in inputs {
        message = message.bytes(1, input);
    }
    for output in outputs {
        message = message.bytes(2, output);
    }
    message = message.bytes(3, outputs[0]).bytes(4, kind);
    for attribute in attributes {
        message = message.message(5, attribute);
    }
    message
}

/// `TensorProto.DataType`
pub(super) fn data_type<E: StoredElement>() -> u64 {
    match E::DTYPE {
        safetensors::Dtype::F64 => 11,
        _ => 1,
    }
}

/// `TensorProto`
pub(super) fn tensor<E: StoredElement>(weight: &Weight<E>) -> Message {
    let mut raw = Vec::new();
    E::encode(&weight.elements, &mut raw);
    Message::default()
        .ints(1, weight.sizes.iter().map(|&size| size as u64))
        .int(2, data_type::<E>())
        .bytes(8, &weight.name)
        .bytes(9, raw)
}

/// `ValueInfoProto` of a value of these sizes, but any number of images.
pub(super) fn value_info<E: StoredElement>(name: &str, sizes: &Sizes) -> Message {
    let mut shape = Message::default().message(1, Message::default().bytes(2, "batch"));
    for &size in &sizes.as_slice()[1..] {
        shape = shape.message(1, Message::default().int(1, size as u64));
    }
    let tensor = Message::default()
        .int(1, data_type::<E>())
        .message(2, shape);
    let kind = Message::default().message(1, tensor);
    Message::default().bytes(1, name).message(2, kind)
}
