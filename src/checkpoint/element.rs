//! How the element types are stored.

use dfdx::dtypes::Dtype;

/// An element type that a checkpoint can hold: `f32` or `f64`.
pub trait StoredElement: Dtype {
    /// The type's name in the safetensors format.
    const DTYPE: safetensors::Dtype;

    /// Appends the elements' bytes, little-endian.
    fn encode(elements: &[Self], bytes: &mut Vec<u8>);

    /// The elements whose bytes these are. Bytes that are not a whole element are left out.
    fn decode(bytes: &[u8]) -> Vec<Self>;

    /// Index and value of the first element that is infinite or not a number.
    fn first_non_finite(elements: &[Self]) -> Option<(usize, f64)>;
}

macro_rules! element {
    ($($e:ty, $dtype:ident);*) => {$(
        impl StoredElement for $e {
            const DTYPE: safetensors::Dtype = safetensors::Dtype::$dtype;

            fn encode(elements: &[Self], bytes: &mut Vec<u8>) {
                bytes.reserve(size_of_val(elements));
                for element in elements {
                    bytes.extend_from_slice(&element.to_le_bytes());
                }
            }

            fn decode(bytes: &[u8]) -> Vec<Self> {
                let (elements, _) = bytes.as_chunks::<{ size_of::<$e>() }>();
                elements.iter().map(|b| <$e>::from_le_bytes(*b)).collect()
            }

            fn first_non_finite(elements: &[Self]) -> Option<(usize, f64)> {
                let index = elements.iter().position(|x| !x.is_finite())?;
                Some((index, elements[index].into()))
            }
        }
    )*};
}
element!(f32, F32; f64, F64);
