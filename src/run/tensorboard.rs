//! The records as an event file of TensorBoard: its records of length, checksum and a protocol buffer
//! (`tensorflow/core/util/event.proto`, of which scalars need few fields).

use super::record::Record;

/// Begins the names of event files, which TensorBoard looks for.
pub(super) const PREFIX: &str = "events.out.tfevents.";

/// The file of these records, written at `time` (seconds since 1970).
pub(super) fn event_file(records: &[Record], time: f64) -> Vec<u8> {
    let mut file = Vec::new();
    let mut version = event(time, 0);
    bytes(&mut version, 3, b"brain.Event:2");
    append(&mut file, &version);
    for record in records {
        let mut summary = Vec::new();
        for (name, value) in record.iter().filter(|(name, _)| *name != "epoch") {
            let mut scalar = Vec::new();
            bytes(&mut scalar, 1, tag(name).as_bytes());
            key(&mut scalar, 2, 5);
            scalar.extend((value as f32).to_le_bytes());
            bytes(&mut summary, 1, &scalar);
        }
        let mut event = event(time, record.epoch());
        bytes(&mut event, 5, &summary);
        append(&mut file, &event);
    }
    file
}

/// `test/loss` of `test_loss`, so that TensorBoard groups what belongs together.
fn tag(name: &str) -> String {
    let sets = ["train_", "test_", "validation_"];
    match sets.iter().find(|set| name.starts_with(**set)) {
        Some(_) => name.replacen('_', "/", 1),
        None => format!("run/{name}"),
    }
}

/// An event's wall time and step.
fn event(time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, 1);
    event.extend(time.to_le_bytes());
    key(&mut event, 2, 0);
    varint(&mut event, step);
    event
}

/// The number and wire type of a field.
fn key(message: &mut Vec<u8>, field: u64, wire: u64) {
    varint(message, field << 3 | wire);
}

/// A field of bytes, with their length.
fn bytes(message: &mut Vec<u8>, field: u64, content: &[u8]) {
    key(message, field, 2);
    varint(message, content.len() as u64);
    message.extend(content);
}

/// Seven bits a byte, the lowest first.
fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// Length, its checksum, the event, its checksum.
fn append(file: &mut Vec<u8>, event: &[u8]) {
    let masked = |bytes: &[u8]| {
        let crc = crc32c::crc32c(bytes).rotate_right(15);
        crc.wrapping_add(0xa282_ead8).to_le_bytes()
    };
    let length = (event.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length));
    file.extend(event);
    file.extend(masked(event));
}
