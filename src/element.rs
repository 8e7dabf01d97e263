//! The elements that CPU kernels compute with.

use num_traits::Float;

use crate::recycle::Pooled;

/// `f32` or `f64`.
///
/// # Safety
/// A plain float: every bit pattern is a valid value.
pub unsafe trait Element: dfdx::dtypes::Dtype + Float + Pooled + std::iter::Sum {}

// SAFETY: a plain float.
unsafe impl Element for f32 {}
// SAFETY: a plain float.
unsafe impl Element for f64 {}
