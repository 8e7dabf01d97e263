//! Vectors of `f32`, for kernels that the compiler does not vectorise well by itself.
//!
//! A kernel is written once, generic over [`Simd`], and [`dispatch`] runs it with the widest
//! instruction set that the machine has: AVX-512, AVX2 with FMA, or arrays that the compiler turns
//! into whatever the target has (SSE2, NEON).
//!
//! Loops that the compiler does vectorise, given the instruction set, are written as plain loops
//! inside `multiversion!` (in `lanes`), for `f32` and `f64` alike.

mod isa;
mod lanes;
pub mod matmul;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use isa::Isa;
#[cfg(target_arch = "x86_64")]
use isa::Set;
pub(crate) use lanes::*;
use portable::Portable;

/// An instruction set's vector of `f32`.
///
/// # Safety
/// Every method requires that the machine has the instruction set; loads and stores require that
/// the pointers are valid for `LANES` elements (of any alignment).
#[allow(clippy::missing_safety_doc)]
pub trait Simd: Copy + 'static {
    /// Elements of a vector.
    const LANES: usize;
    /// Rows of the matrix products' register tiles, beside two vectors of columns, or three where there
    /// are registers for them.
    const TILE_ROWS: usize;
    /// The vector.
    type V: Copy;

    unsafe fn zero() -> Self::V;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// Elements `at[0]`, `at[1]`, ... from `from` on, as many as there are lanes; 0 where `at` is
    /// negative.
    unsafe fn gather(from: *const f32, at: *const i32) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Transposes a square of LANES rows: `load(i)` gives row i, `store(j, v)` takes column j.
    unsafe fn transpose(load: impl Fn(usize) -> Self::V, store: impl FnMut(usize, Self::V));
}

/// Asks for the cache line at `at`, which need not exist.
#[inline(always)]
pub fn prefetch_line<E>(at: *const E) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        // SAFETY: every x86-64 has the instruction, which touches nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Bytes that [`prefetch`] asks for.
const AHEAD: usize = 1024;

/// Asks for the beginning of `data`, which will be read or written soon: the processor fetches
/// ahead by itself, but only inside a page of memory, and not before it has missed a few lines.
#[inline(always)]
pub fn prefetch<E>(data: &[E]) {
    for line in (0..size_of_val(data).min(AHEAD)).step_by(64) {
        prefetch_line(data.as_ptr().wrapping_byte_add(line));
    }
}

/// Work that [`dispatch`] runs with an instruction set.
pub trait SimdKernel {
    /// Does the work. Implementations are `#[inline(always)]`, so that they are compiled with the
    /// instruction set of the function that they are inlined into.
    ///
    /// # Safety
    /// The machine has `S`, and what the kernel itself asks for.
    unsafe fn run<S: Simd>(self);
}

/// Runs `kernel` with the instruction set `isa`.
///
/// # Safety
/// What the kernel itself asks for.
pub unsafe fn dispatch<K: SimdKernel>(isa: Isa, kernel: K) {
    match isa.set() {
        // SAFETY: the machine has the set, or there would be no such token; the caller's promise.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 => unsafe { x86::run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { x86::run_avx2(kernel) },
        // SAFETY: needs no instruction set; the caller's promise.
        _ => unsafe { kernel.run::<Portable>() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Check;
    impl SimdKernel for Check {
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let n = S::LANES;
            let matrix: Vec<f32> = (0..n * n).map(|i| i as f32).collect();
            let mut out = vec![0.0; n * n];
            // SAFETY: row i and column j lie inside the n x n buffers.
            unsafe {
                S::transpose(
                    |i| S::load(matrix.as_ptr().add(i * n)),
                    |j, v| S::store(out.as_mut_ptr().add(j * n), v),
                );
                for i in 0..n {
                    for j in 0..n {
                        assert_eq!(out[j * n + i], matrix[i * n + j], "{n} lanes");
                    }
                }
                let a = S::load(matrix.as_ptr());
                S::store(
                    out.as_mut_ptr(),
                    S::fma(a, S::splat(2.0), S::sub(S::zero(), a)),
                );
            }
            assert_eq!(out[..n], matrix[..n]);
        }
    }

    #[test]
    fn every_instruction_set_of_this_machine() {
        for isa in Isa::available() {
            // SAFETY: the check asks for nothing.
            unsafe { dispatch(isa, Check) };
        }
    }
}
