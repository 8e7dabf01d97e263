//! Where a tensor's elements are on the device.
//!
//! dfdx keeps a tensor's storage to itself, but prints it: `Tensor`, its buffer and cudarc's `CudaSlice`
//! derive `Debug`, and the slice's first fields are the address, the length and the device. Formatting is
//! cut off right behind these. dfdx 0.13.0 and cudarc 0.9.15 are pinned, and [`start`](super::start::start)
//! checks on each device that what is read is the address.

use std::fmt::{Debug, Write};

/// Address, length in elements, and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: u64,
    pub(super) len: usize,
    pub(super) device: i32,
}

/// What a tensor's (or a buffer's) text says of its place; `None` if it says something else.
pub(super) fn place(storage: &dyn Debug) -> Option<Place> {
    let [address, len, device] = numbers(storage, [b"cu_device_ptr: ", b"len: ", b"cu_device: "])?;
    Some(Place {
        address,
        len: len.try_into().ok()?,
        device: device.try_into().ok()?,
    })
}

/// The device that a `Cuda` is.
pub(super) fn device_of(dev: &dyn Debug) -> Option<i32> {
    let [device] = numbers(dev, [b"cu_device: "])?;
    device.try_into().ok()
}

/// The numbers behind these names, in this order, in a value's text. Not generic over the value: a step reads
/// thousands, and generic code is compiled with the crate that uses it, optimised or not.
fn numbers<const N: usize>(value: &dyn Debug, names: [&[u8]; N]) -> Option<[u64; N]> {
    let mut reader = Reader {
        names,
        found: [0; N],
        count: 0,
        matched: 0,
        digits: 0,
    };
    // An error: it has read enough.
    let _ = write!(reader, "{value:?}");
    (reader.count == N).then_some(reader.found)
}

/// Reads `name: number,` for each name out of what is written, then refuses more.
struct Reader<'a, const N: usize> {
    names: [&'a [u8]; N],
    found: [u64; N],
    /// How many numbers have been read.
    count: usize,
    /// How many of the next name's bytes came last.
    matched: usize,
    /// How many of its number's.
    digits: usize,
}

impl<const N: usize> Write for Reader<'_, N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            let Some(name) = self.names.get(self.count) else {
                return Err(std::fmt::Error);
            };
            if self.matched < name.len() {
                // No name begins again inside of itself, but for its first letter.
                self.matched = match byte {
                    _ if byte == name[self.matched] => self.matched + 1,
                    _ if byte == name[0] => 1,
                    _ => 0,
                };
            } else if byte.is_ascii_digit() {
                let more = self.found[self.count].checked_mul(10);
                let more = more.and_then(|n| n.checked_add(u64::from(byte - b'0')));
                self.found[self.count] = more.ok_or(std::fmt::Error)?;
                self.digits += 1;
            } else if byte == b',' && self.digits > 0 {
                (self.count, self.matched, self.digits) = (self.count + 1, 0, 0);
            } else {
                return Err(std::fmt::Error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[allow(dead_code)]
    struct Tensor {
        id: u64,
        data: Slice,
    }

    #[derive(Debug)]
    #[allow(dead_code)]
    struct Slice {
        cu_device_ptr: u64,
        len: usize,
        device: Device,
    }

    #[derive(Debug)]
    #[allow(dead_code)]
    struct Device {
        cu_device: i32,
        rest: Endless,
    }

    /// Nobody may print it.
    struct Endless;

    impl Debug for Endless {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("read too far")
        }
    }

    fn tensor(cu_device: i32) -> Tensor {
        Tensor {
            id: 3,
            data: Slice {
                cu_device_ptr: u64::MAX - 7,
                len: 12,
                device: Device {
                    cu_device,
                    rest: Endless,
                },
            },
        }
    }

    #[test]
    fn a_place_is_read_and_nothing_behind_it() {
        let found = place(&tensor(5)).unwrap();
        let expected = Place {
            address: u64::MAX - 7,
            len: 12,
            device: 5,
        };
        assert_eq!(found, expected);
        assert_eq!(device_of(&tensor(5)), Some(5));
    }

    #[test]
    fn another_text_has_no_place() {
        assert_eq!(place(&tensor(-1)), None);
        assert_eq!(place(&"cu_device_ptr: 0x12, len: 3, cu_device: 0,"), None);
        assert_eq!(place(&[1, 2, 3]), None);
    }
}
