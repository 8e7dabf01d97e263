//! The options of layer normalisation.

use crate::error::{Error, Result};

/// The numbers of a layer normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormOp {
    /// Added to the variance before the square root is taken.
    pub eps: f64,
}

impl Default for LayerNormOp {
    /// That of vision transformers, 1e-6. (PyTorch's layer has 1e-5 where nothing is said.)
    fn default() -> Self {
        Self { eps: 1e-6 }
    }
}

impl LayerNormOp {
    /// That its number is in range.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is not.
    pub fn check(&self) -> Result<()> {
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            return Err(Error::parameter("eps", self.eps, "finite and at least 0"));
        }
        Ok(())
    }
}

/// What a backward pass reads beside dy.
#[derive(Clone, Copy, Debug)]
pub struct Saved<V> {
    /// The input, (B, C, H W).
    pub x: V,
    /// (C)
    pub weight: V,
    /// Of each position of each image, (B, H W).
    pub mean: V,
    /// 1 / sqrt(var + eps), (B, H W).
    pub inv_std: V,
}
