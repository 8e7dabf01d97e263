//! The options of group normalisation.

use crate::error::{Error, Result};

/// What is applied to the normalised images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// f(z) = z
    #[default]
    Identity,
    /// f(z) = z sigmoid(z)
    SiLU,
}

/// The numbers of a group normalisation, shared by its forward and its backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormOp {
    /// Added to the variance before the square root is taken.
    pub eps: f64,
    /// Applied last.
    pub activation: Activation,
}

impl Default for GroupNormOp {
    /// PyTorch's: eps 1e-5, no activation.
    fn default() -> Self {
        Self {
            eps: 1e-5,
            activation: Activation::Identity,
        }
    }
}

impl GroupNormOp {
    /// That its numbers are in range.
    ///
    /// # Errors
    /// [`Error::Parameter`] for one that is not.
    pub fn check(&self) -> Result<()> {
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            return Err(Error::parameter("eps", self.eps, "finite and at least 0"));
        }
        Ok(())
    }
}

/// What a forward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Input<V> {
    /// (B, C, H, W)
    pub x: V,
    /// (B, C), added to x first.
    pub shift: Option<V>,
    /// (C)
    pub weight: V,
    /// (C)
    pub bias: V,
}

/// What a backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<V> {
    /// What the forward pass read.
    pub input: Input<V>,
    /// The output, (B, C, H, W), if SiLU was applied.
    pub y: Option<V>,
    /// Of each group of each image, (B, G).
    pub mean: V,
    /// 1 / sqrt(var + eps), (B, G).
    pub inv_std: V,
}

/// What a backward pass overwrites, beside the gradient of x. `I` is where the device has the
/// importance of channels.
#[derive(Debug)]
pub struct Grads<V, I> {
    /// For each channel's mean |dx|, (C).
    pub importance: Option<I>,
    /// Of the shift, (B, C).
    pub dshift: Option<V>,
}
