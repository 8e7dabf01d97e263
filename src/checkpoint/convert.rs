//! Elements of one floating-point type as those of another.

use safetensors::Dtype;

/// Whether every value of `from` is one of `to`.
pub(super) fn widens(from: Dtype, to: Dtype) -> bool {
    use Dtype::{BF16, F16, F32, F64};
    matches!((from, to), (F16 | BF16, F32 | F64) | (F32, F64))
}

/// The stored elements of type `from` as elements of the wider type `to`, bit for bit the same values.
/// `None` if that [`widens`] not.
pub(super) fn widened(data: &[u8], from: Dtype, to: Dtype) -> Option<Vec<u8>> {
    use Dtype::{BF16, F16, F32, F64};
    let half = |b| f32_of_f16(u16::from_le_bytes(b));
    let brain = |b| f32_of_bf16(u16::from_le_bytes(b));
    Some(match (from, to) {
        (F16, F32) => map(data, |b| half(b).to_le_bytes()),
        (F16, F64) => map(data, |b| f64::from(half(b)).to_le_bytes()),
        (BF16, F32) => map(data, |b| brain(b).to_le_bytes()),
        (BF16, F64) => map(data, |b| f64::from(brain(b)).to_le_bytes()),
        (F32, F64) => map(data, |b| f64::from(f32::from_le_bytes(b)).to_le_bytes()),
        _ => return None,
    })
}

/// Stored f64 elements, rounded to f32.
///
/// # Errors
/// The first finite value that is too large.
pub(super) fn narrowed(data: &[u8]) -> Result<Vec<u8>, f64> {
    let (elements, _) = data.as_chunks();
    let mut elements = elements.iter().map(|&b| f64::from_le_bytes(b));
    match elements.find(|x| x.is_finite() && (*x as f32).is_infinite()) {
        Some(too_large) => Err(too_large),
        None => Ok(map(data, |b| (f64::from_le_bytes(b) as f32).to_le_bytes())),
    }
}

fn map<const A: usize, const B: usize>(data: &[u8], f: impl Fn([u8; A]) -> [u8; B]) -> Vec<u8> {
    let (elements, _) = data.as_chunks::<A>();
    let mut mapped = Vec::with_capacity(elements.len() * B);
    for &element in elements {
        mapped.extend_from_slice(&f(element));
    }
    mapped
}

fn f32_of_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

fn f32_of_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10 & 0x1f);
    let fraction = u32::from(bits & 0x3ff);
    let magnitude = match exponent {
        // Subnormals are normal numbers of f32: fraction times 2^-24.
        0 => (fraction as f32 / (1 << 24) as f32).to_bits(),
        0x1f => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let found = f32_of_f16(bits);
            let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
            match exponent {
                31 if fraction == 0.0 => assert_eq!(f64::from(found), sign * f64::INFINITY),
                31 => assert!(found.is_nan()),
                0 => assert_eq!(f64::from(found), sign * fraction * 2f64.powi(-24)),
                _ => {
                    let value = (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15);
                    assert_eq!(f64::from(found), sign * value);
                }
            }
            assert_eq!(found.is_sign_negative(), sign < 0.0);
        }
    }

    #[test]
    fn every_bf16_is_the_upper_half_of_an_f32() {
        for (bits, value) in [(0x3f80, 1.0), (0xc040, -3.0), (0x0001, 2f64.powi(-133))] {
            assert_eq!(f64::from(f32_of_bf16(bits)), value);
        }
        assert!(f32_of_bf16(0x7fc0).is_nan());
    }

    #[test]
    fn f64_is_rounded_unless_it_is_too_large() {
        let bytes = |x: &[f64]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
        let found = narrowed(&bytes(&[0.1, f64::INFINITY, 1e-300])).unwrap();
        let expected = [0.1_f32, f32::INFINITY, 0.0];
        assert_eq!(
            found,
            expected
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect::<Vec<_>>()
        );
        assert_eq!(narrowed(&bytes(&[1.0, -1e39])), Err(-1e39));
    }
}
