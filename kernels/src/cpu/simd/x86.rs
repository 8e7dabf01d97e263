//! AVX-512 and AVX2.
//!
//! Safety of everything here: the caller promises the instruction set (see [`Simd`]), and the
//! pointers of loads and stores.
#![allow(clippy::undocumented_unsafe_blocks)]

use std::arch::x86_64::*;

use super::{Simd, SimdKernel};

/// Sixteen lanes; 32 registers, of which the matrix products' sums take 16 or 24.
#[derive(Clone, Copy)]
pub struct Avx512;

/// Eight lanes; 16 registers, of which the matrix product's sums take 12.
#[derive(Clone, Copy)]
pub struct Avx2;

#[target_feature(enable = "avx512f")]
pub(super) unsafe fn run_avx512<K: SimdKernel>(kernel: K) {
    unsafe { kernel.run::<Avx512>() }
}

#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<K: SimdKernel>(kernel: K) {
    unsafe { kernel.run::<Avx2>() }
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    const TILE_ROWS: usize = 8;
    type V = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn gather(from: *const f32, at: *const i32) -> __m512 {
        unsafe {
            let at = _mm512_loadu_si512(at.cast());
            let inside = _mm512_cmpge_epi32_mask(at, _mm512_setzero_si512());
            _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), inside, at, from)
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn transpose(load: impl Fn(usize) -> __m512, mut store: impl FnMut(usize, __m512)) {
        unsafe {
            let r: [__m512; 16] = std::array::from_fn(load);
            // Pairs of rows, then fours, inside each 128-bit lane: q[4g + j] holds column
            // 4 * lane + j of rows 4g..4g + 4.
            let mut q = [_mm512_setzero_ps(); 16];
            for g in 0..4 {
                let [a, b, c, d] = [r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]];
                let (ab0, ab1) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (cd0, cd1) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                q[4 * g] = _mm512_shuffle_ps::<0x44>(ab0, cd0);
                q[4 * g + 1] = _mm512_shuffle_ps::<0xee>(ab0, cd0);
                q[4 * g + 2] = _mm512_shuffle_ps::<0x44>(ab1, cd1);
                q[4 * g + 3] = _mm512_shuffle_ps::<0xee>(ab1, cd1);
            }
            // Then the 128-bit lanes: column 4 * lane + j is lane `lane` of q[j], q[4 + j], ...
            for j in 0..4 {
                let [a, b, c, d] = [q[j], q[4 + j], q[8 + j], q[12 + j]];
                let (ab0, ab1) = (
                    _mm512_shuffle_f32x4::<0x88>(a, b),
                    _mm512_shuffle_f32x4::<0xdd>(a, b),
                );
                let (cd0, cd1) = (
                    _mm512_shuffle_f32x4::<0x88>(c, d),
                    _mm512_shuffle_f32x4::<0xdd>(c, d),
                );
                store(j, _mm512_shuffle_f32x4::<0x88>(ab0, cd0));
                store(8 + j, _mm512_shuffle_f32x4::<0xdd>(ab0, cd0));
                store(4 + j, _mm512_shuffle_f32x4::<0x88>(ab1, cd1));
                store(12 + j, _mm512_shuffle_f32x4::<0xdd>(ab1, cd1));
            }
        }
    }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;
    type V = __m256;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn gather(from: *const f32, at: *const i32) -> __m256 {
        unsafe {
            let at = _mm256_loadu_si256(at.cast());
            let outside = _mm256_castsi256_ps(at);
            // The sign bit tells: of all ones, take those whose position's is not set.
            let inside = _mm256_andnot_ps(outside, _mm256_castsi256_ps(_mm256_set1_epi32(-1)));
            _mm256_mask_i32gather_ps::<4>(_mm256_setzero_ps(), from, at, inside)
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn transpose(load: impl Fn(usize) -> __m256, mut store: impl FnMut(usize, __m256)) {
        unsafe {
            let r: [__m256; 8] = std::array::from_fn(load);
            let mut q = [_mm256_setzero_ps(); 8];
            for g in 0..2 {
                let [a, b, c, d] = [r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]];
                let (ab0, ab1) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd0, cd1) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                q[4 * g] = _mm256_shuffle_ps::<0x44>(ab0, cd0);
                q[4 * g + 1] = _mm256_shuffle_ps::<0xee>(ab0, cd0);
                q[4 * g + 2] = _mm256_shuffle_ps::<0x44>(ab1, cd1);
                q[4 * g + 3] = _mm256_shuffle_ps::<0xee>(ab1, cd1);
            }
            for j in 0..4 {
                store(j, _mm256_permute2f128_ps::<0x20>(q[j], q[4 + j]));
                store(4 + j, _mm256_permute2f128_ps::<0x31>(q[j], q[4 + j]));
            }
        }
    }
}
