//! The elements that CPU kernels compute with.

use num_traits::{Float, FromPrimitive, NumAssign};

/// `f32` or `f64`.
///
/// # Safety
/// A plain float: every bit pattern is a valid value.
pub unsafe trait Element:
    Float
    + FromPrimitive
    + NumAssign
    + std::iter::Sum
    + Default
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// e^self. For `f32` within 2 units of the last place, and as loops over vectors can have it:
    /// results below the smallest normal number are that number, above the largest infinite. NaN
    /// stays NaN.
    fn vector_exp(self) -> Self;

    /// 1 / (1 + e^-self).
    #[inline(always)]
    fn vector_sigmoid(self) -> Self {
        Self::one() / (Self::one() + (-self).vector_exp())
    }
}

// SAFETY: a plain float.
unsafe impl Element for f32 {
    #[inline(always)]
    fn vector_exp(self) -> f32 {
        // Cody and Waite: e^x = 2^n e^r with r = x - n ln 2, |r| <= ln(2) / 2; the polynomial is
        // fitted to the interval (relative error 3.7e-9).
        const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to whole numbers
        const LN_2_HIGH: f32 = 0.693_359_4; // 9 bits
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        let x = if self > 89.0 { 89.0 } else { self };
        let x = if x < -87.33 { -87.33 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + SHIFT;
        let n = shifted - SHIFT;
        let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
        let p = 1.386_37e-3 * r + 8.367_49e-3;
        let p = p * r + 4.166_724e-2;
        let p = p * r + 1.666_653_4e-1;
        let p = p * r + 0.5;
        let p = (p * r) * r + r;
        let p = p + 1.0;
        // The low bits of `shifted` are n. In two steps, since 2^128 has no place in an f32.
        let half = |n: u32| f32::from_bits((n << 23).wrapping_add(0x3f80_0000));
        let n = shifted.to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
        let (a, b) = (n >> 1, n - (n >> 1));
        p * half(a as u32) * half(b as u32)
    }
}

// SAFETY: a plain float.
unsafe impl Element for f64 {
    #[inline(always)]
    fn vector_exp(self) -> f64 {
        Float::exp(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        let mut worst: f64 = 0.0;
        for i in -870_000..=887_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(x.vector_exp()) / exact - 1.0).abs());
        }
        assert!(worst < 1.2e-7 * 2.0, "{worst}");
        assert_eq!(0f32.vector_exp(), 1.0);
        assert_eq!((-0.0f32).vector_exp(), 1.0);
    }

    #[test]
    fn exponentials_at_the_ends() {
        assert_eq!(100f32.vector_exp(), f32::INFINITY);
        assert_eq!(f32::INFINITY.vector_exp(), f32::INFINITY);
        assert!((0.0..=1.3e-38).contains(&f32::NEG_INFINITY.vector_exp()));
        assert!(f32::NAN.vector_exp().is_nan());
        assert_eq!(f32::NEG_INFINITY.vector_sigmoid(), 0.0);
        assert_eq!(f32::INFINITY.vector_sigmoid(), 1.0);
        assert!(f32::NAN.vector_sigmoid().is_nan());
    }
}
