//! How many channels backward passes kept.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::DropRate;

/// Counts what a layer's backward passes kept, where the number depends on the data
/// ([`Selection::Adaptive`](super::Selection::Adaptive)).
///
/// A layer has none unless it is given one, with
/// [`count_kept`](crate::nn::VisitLayers::count_kept). Backward FLOPs are linear in the kept share,
/// so those of a run follow from [`drop_rate`](Self::drop_rate):
///
/// ```
/// use std::sync::Arc;
/// use dfdx::prelude::*;
/// use ssprop::nn::{builders::SparseConv2D, VisitLayers};
/// use ssprop::sparsity::{AdaptiveKeep, Selection};
///
/// let dev = Cpu::default();
/// let mut conv = dev.build_module::<SparseConv2D<3, 8, 3, 1, 1>, f32>();
/// conv.set_selection(Selection::Adaptive(AdaptiveKeep::new(0.6)?));
/// let counts = conv.count_kept();
///
/// let x: Tensor<Rank4<2, 3, 8, 8>, f32, _> = dev.sample_normal();
/// conv.forward(x.leaky_trace()).square().sum().backward();
/// let (path, count) = &counts[0];
/// assert_eq!((path.as_str(), count.passes()), ("", 1));
/// assert!(count.kept() >= 1 && count.kept() < 8);
/// assert_eq!(count.drop_rate().keep(), count.kept() as f64 / 8.0);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct KeptCount {
    passes: AtomicU64,
    kept: AtomicU64,
    all: AtomicU64,
}

impl KeptCount {
    /// Adds a backward pass that kept `kept` of `all` channels (or positions, or elements).
    pub fn add(&self, kept: usize, all: usize) {
        self.passes.fetch_add(1, Relaxed);
        self.kept.fetch_add(kept as u64, Relaxed);
        self.all.fetch_add(all as u64, Relaxed);
    }

    /// Backward passes since the last [`reset`](Self::reset).
    pub fn passes(&self) -> u64 {
        self.passes.load(Relaxed)
    }

    /// Channels that they kept, all together.
    pub fn kept(&self) -> u64 {
        self.kept.load(Relaxed)
    }

    /// The drop rate that comes to the same, 1 - kept / all; dense before the first pass.
    pub fn drop_rate(&self) -> DropRate {
        let (kept, all) = (self.kept.load(Relaxed), self.all.load(Relaxed));
        DropRate::from_keep(kept as f64 / all as f64).unwrap_or(DropRate::DENSE)
    }

    /// Begins anew, at an epoch's start, say.
    pub fn reset(&self) {
        for count in [&self.passes, &self.kept, &self.all] {
            count.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_begin_anew() {
        let count = KeptCount::default();
        assert!(count.drop_rate().is_dense());
        count.add(2, 10);
        count.add(4, 10);
        assert_eq!((count.passes(), count.kept()), (2, 6));
        assert!((count.drop_rate().rate() - 0.7).abs() < 1e-15);
        count.reset();
        assert_eq!((count.passes(), count.kept()), (0, 0));
        assert!(count.drop_rate().is_dense());
    }
}
