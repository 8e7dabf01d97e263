//! Instruction sets that this machine has.

use std::sync::LazyLock;

use super::portable::Portable;
#[cfg(target_arch = "x86_64")]
use super::x86;
use super::Simd;

/// An instruction set that this machine has: a token that only detection makes, on whose strength
/// code that was compiled for it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// AVX-512F, BW, DQ and VL.
    Avx512,
    /// AVX2 with FMA.
    Avx2,
    /// What the compilation target has.
    Portable,
}

/// Names the widest set to use, `avx2` or `portable`: a way to test what other machines run.
const LIMIT: &str = "SSPROP_ISA";

static WIDEST: LazyLock<Isa> = LazyLock::new(|| {
    let limit = std::env::var(LIMIT).unwrap_or_default();
    let allowed = |set| match &limit[..] {
        "avx2" => set != Set::Avx512,
        "portable" => set == Set::Portable,
        _ => true,
    };
    let widest = Isa::available().find(|isa| allowed(isa.0));
    widest.unwrap_or(Isa(Set::Portable))
});

impl Isa {
    /// The widest one that this machine has (and `SSPROP_ISA` allows).
    pub fn detect() -> Self {
        *WIDEST
    }

    /// All that this machine has, the widest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let sets = [Set::Avx512, Set::Avx2, Set::Portable];
        sets.into_iter().filter(|&set| is_here(set)).map(Self)
    }

    /// Its name, as `SSPROP_ISA` has it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Avx512 => "avx512",
            Set::Avx2 => "avx2",
            Set::Portable => "portable",
        }
    }

    pub(super) fn set(self) -> Set {
        self.0
    }

    /// Elements of this instruction set's vector of `f32`.
    pub fn lanes(self) -> usize {
        match self.0 {
            Set::Avx512 => 16,
            Set::Avx2 | Set::Portable => 8,
        }
    }

    /// [`Simd::TILE_ROWS`] of this instruction set.
    pub fn tile_rows(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => x86::Avx512::TILE_ROWS,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => x86::Avx2::TILE_ROWS,
            _ => Portable::TILE_ROWS,
        }
    }

    /// Whether functions compiled for AVX-512F, BW, DQ and VL may run.
    pub fn has_avx512(self) -> bool {
        self.0 == Set::Avx512
    }

    /// Whether functions compiled for AVX2 may run.
    pub fn has_avx2(self) -> bool {
        self.0 != Set::Portable
    }
}

#[cfg(target_arch = "x86_64")]
fn is_here(set: Set) -> bool {
    match set {
        Set::Avx512 => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        }
        Set::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        Set::Portable => true,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn is_here(set: Set) -> bool {
    set == Set::Portable
}
