//! Arrays of eight, left to the compiler.

use super::Simd;

/// Eight lanes of whatever the target has.
#[derive(Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn zip(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    const LANES: usize = 8;
    const TILE_ROWS: usize = 4;
    type V = [f32; 8];

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: valid for 8 elements, by the trait's contract.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: valid for 8 elements, by the trait's contract.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn gather(from: *const f32, at: *const i32) -> Self::V {
        // SAFETY: the caller's promise.
        std::array::from_fn(|lane| unsafe {
            match usize::try_from(*at.add(lane)) {
                Ok(at) => *from.add(at),
                Err(_) => 0.0,
            }
        })
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Where the target has no fused instruction, `mul_add` would be a call into libm.
        #[cfg(target_arch = "aarch64")]
        return std::array::from_fn(|i| a[i].mul_add(b[i], c[i]));
        #[cfg(not(target_arch = "aarch64"))]
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn transpose(load: impl Fn(usize) -> Self::V, mut store: impl FnMut(usize, Self::V)) {
        let rows: [[f32; 8]; 8] = std::array::from_fn(load);
        (0..8).for_each(|j| store(j, std::array::from_fn(|i| rows[i][j])));
    }
}
