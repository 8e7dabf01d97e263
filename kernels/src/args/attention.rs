//! The sizes of self-attention.

/// The sizes of one head, shared by forward and backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionOp {
    /// Channels of a head, C / heads.
    pub depth: usize,
    /// Positions of an image, N = H W.
    pub positions: usize,
}
