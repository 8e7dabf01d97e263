//! The sizes of a batch of images.

/// (B, C, H W)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageDims {
    /// B
    pub batch: usize,
    /// C
    pub channels: usize,
    /// H W
    pub plane: usize,
}
