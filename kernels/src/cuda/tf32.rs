//! Where factors of products are rounded to TF32.

use std::sync::atomic::{AtomicU8, Ordering};

static TF32: AtomicU8 = AtomicU8::new(Tf32::Convolutions as u8);

/// Which matrix products on CUDA devices may round their factors to TF32, 10 bits behind the binary point, forward
/// and backward. On tensor cores that is several times faster, and results are within 1e-3 instead of 1e-5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tf32 {
    /// None: all are in full `f32`.
    Off,
    /// Those of convolutions: PyTorch's choice.
    #[default]
    Convolutions,
    /// Those of linear layers and attention too.
    Everywhere,
}

impl Tf32 {
    /// In convolutions.
    pub fn in_convolutions(self) -> bool {
        self != Self::Off
    }

    /// In other products.
    pub fn in_products(self) -> bool {
        self == Self::Everywhere
    }
}

/// Sets where TF32 is used from now on, in the whole process; at first in convolutions.
pub fn use_tf32(tf32: Tf32) {
    TF32.store(tf32 as u8, Ordering::Relaxed);
}

/// Where it is used.
pub fn tf32() -> Tf32 {
    [Tf32::Off, Tf32::Convolutions, Tf32::Everywhere][usize::from(TF32.load(Ordering::Relaxed))]
}
