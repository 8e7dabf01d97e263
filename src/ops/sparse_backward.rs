//! The options of a sparse backward pass.

use crate::sparsity::{Draw, DropRate, Masking, Selection};

/// How the backward pass of a layer goes: what is dropped, and which gradients are computed.
///
/// ```
/// use ssprop::ops::SparseBackward;
/// use ssprop::sparsity::{DropRate, Masking, Selection};
///
/// // A panel of the paper's sensitivity analysis: random positions instead of the best channels.
/// let backward = SparseBackward {
///     drop_rate: DropRate::new(0.8)?,
///     selection: Selection::Random { seed: 0, rescale: true },
///     masking: Masking::Positions,
///     ..SparseBackward::default()
/// };
/// assert!(!backward.only_weight_sparse);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseBackward {
    /// Share of the output channels (or positions, or elements) that are dropped.
    pub drop_rate: DropRate,
    /// Whether dX is computed. A network's first layer has no use for it.
    pub input_gradient: bool,
    /// How those that are kept are chosen.
    pub selection: Selection,
    /// What is kept or dropped as one.
    pub masking: Masking,
    /// Below this drop rate the products are the dense ones, on dY with zeros in the dropped
    /// channels: the same gradients, in less time where ranking and copying cost more than they
    /// save. 0 (never) at first; [`time_bounds`](crate::nn::time_bounds) measures it. It is for
    /// dropped channels only, with dX sparse too.
    pub dense_below: DropRate,
    /// Whether dX comes from the whole of dY, and only dW and db from what is kept.
    pub only_weight_sparse: bool,
    /// What tells a random selection's draws from each other. Each iteration needs another:
    /// [`set_iteration`](crate::nn::VisitLayers::set_iteration).
    pub draw: Draw,
    /// Whether convolutions use Winograd's algorithm where it pays, in the forward pass too; they do at
    /// first. [`conv2d`](crate::ops::conv2d::conv2d) says what their rounding errors are, with and
    /// without.
    pub winograd: bool,
}

impl Default for SparseBackward {
    /// Dense, with dX; and once there is a drop rate, the paper's method: the channels of the
    /// largest mean |dY|.
    fn default() -> Self {
        Self {
            drop_rate: DropRate::DENSE,
            input_gradient: true,
            selection: Selection::default(),
            masking: Masking::default(),
            dense_below: DropRate::DENSE,
            only_weight_sparse: false,
            draw: Draw::default(),
            winograd: true,
        }
    }
}

impl SparseBackward {
    /// Whether the products are dense though only `count` of `all` channels are kept.
    pub(crate) fn prefers_dense(&self, count: usize, all: usize) -> bool {
        let dropped = 1.0 - count as f64 / all.max(1) as f64;
        self.masking == Masking::Channels
            && !self.only_weight_sparse
            && dropped < self.dense_below.rate()
    }

    /// The drop rate that is known before any data are seen: `drop_rate`, or under
    /// [`Selection::Adaptive`] the one at the upper bound of the kept share.
    /// ([`KeptCount`](crate::sparsity::KeptCount) tells afterwards what it was.)
    pub fn planned_drop_rate(&self) -> DropRate {
        match self.selection {
            Selection::TopK | Selection::Random { .. } | Selection::Rotation { .. } => {
                self.drop_rate
            }
            Selection::Adaptive(rule) => rule.least_drop_rate(),
        }
    }

    /// The drop rate by which FLOPs are counted ([`flops`](crate::sparsity::flops)) before any data
    /// are seen: the planned one, or half of it if only dW is sparse, for dX and dW cost the same.
    ///
    /// It does not know of the masking: kept positions and elements count as if the dropped ones
    /// cost nothing, though the masked products here are dense. A random selection's includes the
    /// ranking, which it does not need, and so does a rotation's; that of an adaptive one without an upper bound does not.
    pub fn counted_drop_rate(&self) -> DropRate {
        let rate = self.planned_drop_rate();
        if self.only_weight_sparse {
            rate.halved()
        } else {
            rate
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparsity::{flops, AdaptiveKeep};

    #[test]
    fn flops_are_counted_by_what_is_sparse() {
        let (m, n, c) = (128 * 64, 9 * 16, 32);
        let mut backward = SparseBackward {
            drop_rate: DropRate::new(0.8).unwrap(),
            ..SparseBackward::default()
        };
        assert_eq!(backward.counted_drop_rate(), backward.drop_rate);
        backward.only_weight_sparse = true;
        let dense = flops::conv2d_dense(m, n, c);
        let expected = 0.5 * dense + 0.2 * 0.5 * dense + flops::importance(m, c);
        assert_eq!(backward.planned_drop_rate(), backward.drop_rate);
        let counted = flops::conv2d(m, n, c, backward.counted_drop_rate());
        assert!((counted / expected - 1.0).abs() < 1e-12);

        let rule = AdaptiveKeep::new(0.9).unwrap().with_bounds(0.1, 0.4);
        backward.selection = Selection::Adaptive(rule.unwrap());
        backward.only_weight_sparse = false;
        assert!((backward.counted_drop_rate().keep() - 0.4).abs() < 1e-12);
    }
}
