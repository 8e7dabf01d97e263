//! What a convolution's mask is over.

use std::fmt;

/// What a sparse backward pass keeps or drops as one: the parts of dY (B, C_out, H_out, W_out) that
/// share a bit of the mask, which is the same for every image of the batch.
///
/// The paper's method drops whole channels, and that alone saves time: the kept ones are copied
/// together. The others are there for its sensitivity analysis; they zero dY where it is dropped
/// and compute the dense products.
///
/// Over channels, a layer without height and width (linear) ranks its output features; it has no
/// positions, and drops features under every variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Masking {
    /// C_out channels, ranked by mean |dY| over batch, height and width.
    #[default]
    Channels,
    /// H_out x W_out positions, ranked by mean |dY| over batch and channels.
    Positions,
    /// C_out x H_out x W_out elements of an image, ranked by mean |dY| over the batch.
    Elements,
}

impl fmt::Display for Masking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channels => "channels",
            Self::Positions => "height x width",
            Self::Elements => "channels x height x width",
        })
    }
}
