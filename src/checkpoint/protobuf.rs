//! Messages of protocol buffers, as far as ONNX needs them.
//!
//! <https://protobuf.dev/programming-guides/encoding>

/// A message under construction: fields by their numbers, in the order that they are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

/// How a field's value is laid out.
const VARINT: u64 = 0;
const LENGTH: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Message {
    /// The encoded message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A whole number, which is not negative.
    pub fn int(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(value);
        self
    }

    /// Whole numbers, each as [`int`](Self::int) writes one.
    pub fn ints(self, field: u64, values: impl IntoIterator<Item = u64>) -> Self {
        let values = values.into_iter();
        values.fold(self, |message, value| message.int(field, value))
    }

    /// A number of 32 bits.
    pub fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | FOUR_BYTES);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A text, or other bytes.
    pub fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(field << 3 | LENGTH);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A message in this one.
    pub fn message(self, field: u64, value: Self) -> Self {
        self.bytes(field, value.0)
    }

    /// Seven bits a byte, the lowest first; all but the last byte have the eighth.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification() {
        let bytes = |message: Message| message.into_bytes();
        assert_eq!(bytes(Message::default().int(1, 150)), [0x08, 0x96, 0x01]);
        let text = Message::default().bytes(2, "testing");
        assert_eq!(bytes(text), *b"\x12\x07testing");
        let inner = Message::default().int(1, 150);
        assert_eq!(
            bytes(Message::default().message(3, inner)),
            [0x1a, 3, 0x08, 0x96, 0x01]
        );
    }

    #[test]
    fn numbers() {
        let bytes = |message: Message| message.into_bytes();
        assert_eq!(bytes(Message::default().int(16, 0)), [0x80, 0x01, 0]);
        let largest = bytes(Message::default().int(1, u64::MAX));
        assert_eq!(
            largest[1..],
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]
        );
        assert_eq!(bytes(Message::default().ints(1, [1, 2])), [8, 1, 8, 2]);
        assert_eq!(
            bytes(Message::default().float(2, 1.0)),
            [0x15, 0, 0, 0x80, 0x3f]
        );
    }
}
