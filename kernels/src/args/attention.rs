//! The sizes of self-attention.

/// Where the queries, keys and values of several heads lie among the 3 C channels of `qkv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QkvOrder {
    /// The heads one after the other, each with its queries, its keys and its values: OpenAI's U-Nets.
    #[default]
    ByHead,
    /// The queries of all `heads`, then their keys, then their values: vision transformers, and PyTorch's
    /// `MultiheadAttention`.
    ByKind {
        /// The heads of an image.
        heads: usize,
    },
}

/// The sizes of one head, shared by forward and backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionOp {
    /// Channels of a head, C / heads.
    pub depth: usize,
    /// Positions of an image, N = H W.
    pub positions: usize,
    /// Which channels of `qkv` are whose.
    pub order: QkvOrder,
}

impl AttentionOp {
    /// Where the queries, keys and values of head number `head`, counted through all images, lie in `qkv`,
    /// in units of (d, N).
    pub fn of_head(&self, head: usize) -> [usize; 3] {
        match self.order {
            QkvOrder::ByHead => [3 * head, 3 * head + 1, 3 * head + 2],
            QkvOrder::ByKind { heads } => {
                let queries = head / heads * 3 * heads + head % heads;
                [queries, queries + heads, queries + 2 * heads]
            }
        }
    }
}
