//! How a dropout rate reaches the batch norms of a model, and whether they are synchronized.

use super::Dropout;
use crate::error::Result;
use crate::kernels::args::dropout::mix;

/// A batch norm, the layer with dropout after it, as a visitor of a model sees it.
#[derive(Debug)]
pub struct DropoutLayer<'a> {
    /// The layer's path, as in checkpoints: `layer1.0.bn1`.
    pub path: &'a str,
    /// The dropout after it.
    pub dropout: &'a mut Dropout,
    /// Its [`synchronized`](super::modules::BatchNorm2D::synchronized).
    pub synchronized: &'a mut bool,
}

/// A model (or layer, or tuple of them) whose dropout can be visited: that after every
/// [`BatchNorm2D`](super::modules::BatchNorm2D) of this crate.
///
/// ```
/// use ssprop::prelude::*;
///
/// let dev = Cpu::default();
/// let mut net = dev.build_module::<Cnn<3, 10, 1>, f32>();
/// net.set_dropout(0.4, 7)?;
/// let x: Tensor<Rank4<2, 1, 8, 8>, f32, _> = dev.sample_normal();
/// // Other masks in every step of training ...
/// let a = net.try_forward_mut(x.leaky_trace())?.array();
/// let b = net.try_forward_mut(x.leaky_trace())?.array();
/// assert_ne!(a, b);
/// // ... and none in inference.
/// assert_eq!(net.try_forward(x.clone())?.array(), net.try_forward(x)?.array());
/// # Ok::<(), ssprop::Error>(())
/// ```
pub trait VisitDropout {
    /// Calls `f` for every layer with dropout, in the model's order, with paths that begin with
    /// `path` (empty at the root). A layer without dropout leaves it as it is.
    fn visit_dropout_at(&mut self, path: &str, f: &mut dyn FnMut(DropoutLayer<'_>)) {
        let _ = (path, f);
    }

    /// Calls `f` for every layer with dropout, in the model's order.
    fn visit_dropout(&mut self, f: &mut dyn FnMut(DropoutLayer<'_>)) {
        self.visit_dropout_at("", f);
    }

    /// Drops elements with probability `rate` after every such layer, each by masks of its own;
    /// 0 switches dropout off.
    ///
    /// [`Trainer`](crate::train::Trainer) tells the layers when an epoch begins; in a loop of your
    /// own call [`start_epoch`](Self::start_epoch).
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) if `rate` is not at least 0 and less than 1.
    fn set_dropout(&mut self, rate: f64, seed: u64) -> Result<()> {
        let new = Dropout::new(rate, seed)?;
        let mut index = 0;
        self.visit_dropout(&mut |layer| {
            *layer.dropout = new.with_seed(mix(seed, index));
            index += 1;
        });
        Ok(())
    }

    /// Whether every batch norm, in distributed training, normalises by the mean and variance of all ranks'
    /// images together ([`BatchNorm2D::synchronized`](super::modules::BatchNorm2D::synchronized)).
    fn set_synchronized(&mut self, synchronized: bool) {
        self.visit_dropout(&mut |layer| *layer.synchronized = synchronized);
    }

    /// Begins epoch number `epoch`, whose masks are those of no other epoch.
    fn start_epoch(&mut self, epoch: u64) {
        self.visit_dropout(&mut |layer| layer.dropout.start_epoch(epoch));
    }
}
