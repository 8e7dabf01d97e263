//! Where factors of products are rounded to TF32.

use std::cell::Cell;

thread_local! {
    static TF32: Cell<Tf32> = const { Cell::new(Tf32::Convolutions) };
}

/// Which matrix products on CUDA devices may round their factors to TF32, 10 bits behind the binary point, forward
/// and backward. On tensor cores that is several times faster, and results are within 2e-3 of the largest one, instead
/// of 1e-5.
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

/// Sets where this thread uses TF32 from now on; on every thread at first in convolutions. (CUDA tensors stay on their
/// thread.)
pub fn use_tf32(tf32: Tf32) {
    TF32.set(tf32);
}

/// Where it is used.
pub fn tf32() -> Tf32 {
    TF32.get()
}
