//! The options of batch normalisation.

use crate::error::{Error, Result};

/// What is applied to the sum at the end of a fused operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// f(z) = z
    #[default]
    Identity,
    /// f(z) = max(z, 0)
    ReLU,
}

/// Where a normalisation's mean and variance come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Of the batch itself: they depend on x, and the gradient runs through them.
    Batch,
    /// Given: constants to the gradient.
    Running,
}

/// The numbers of a batch normalisation, shared by its forward and its backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm2DOp {
    /// Added to the variance before the square root is taken.
    pub eps: f64,
    /// The share of the batch's statistics in the new running ones.
    pub momentum: f64,
    /// Applied last.
    pub activation: Activation,
    /// Whether a batch, in distributed training, is all ranks' together: its mean and variance are then
    /// those that one process would find. The CPU's alone.
    pub synchronized: bool,
}

impl Default for BatchNorm2DOp {
    /// PyTorch's: eps 1e-5, momentum 0.1, no activation, each rank by itself.
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: 0.1,
            activation: Activation::Identity,
            synchronized: false,
        }
    }
}

impl BatchNorm2DOp {
    /// That its numbers are in range.
    ///
    /// # Errors
    /// [`Error::Parameter`] for one that is not.
    pub fn check(&self) -> Result<()> {
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            return Err(Error::parameter("eps", self.eps, "finite and at least 0"));
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(Error::parameter("momentum", self.momentum, "in 0..=1"));
        }
        Ok(())
    }
}

/// The ranks of a distributed training, whose batches are normalised as one.
pub struct AllRanks<'a> {
    /// Whether this rank's images count. (One that goes along with an image of another's has none.)
    pub counts: bool,
    /// Adds each value to those of the other ranks, which call this as often.
    pub sum: &'a mut dyn FnMut(&mut [f64]) -> Result<()>,
}

/// What a forward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Input<V> {
    /// (B, C, H, W)
    pub x: V,
    /// (B, C, H, W), added to the normalised x.
    pub residual: Option<V>,
    /// (C)
    pub weight: V,
    /// (C)
    pub bias: V,
}

/// What a backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<V> {
    /// (B, C, H, W)
    pub x: V,
    /// The output, (B, C, H, W), if the ReLU's mask has to come from it.
    pub y: Option<V>,
    /// (C)
    pub weight: V,
    /// (C)
    pub bias: V,
    /// The forward pass's, (C).
    pub mean: V,
    /// The forward pass's 1 / sqrt(var + eps), (C).
    pub inv_std: V,
}
