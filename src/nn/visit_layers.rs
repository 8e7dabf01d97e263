//! How settings reach the layers of a model: drop rates the sparse ones, dropout the batch norms.

use std::sync::Arc;

use super::plan::LayerInfo;
use super::Dropout;
use crate::error::Result;
use crate::kernels::args::dropout::mix;
use crate::ops::SparseBackward;
use crate::sparsity::{Draw, DropRate, KeptCount, Masking, Selection};

/// A layer with settings, as a visitor of a model sees it.
#[derive(Debug)]
#[non_exhaustive]
pub enum LayerMut<'a> {
    /// One whose backward pass can be sparse.
    Sparse(SparseLayer<'a>),
    /// A batch norm, and the dropout after it.
    Norm(NormLayer<'a>),
}

/// A sparse layer, as a visitor of a model sees it.
#[derive(Debug)]
pub struct SparseLayer<'a> {
    /// The path of its weight without the last part, as in checkpoints: `layer1.0.conv1`.
    pub path: &'a str,
    /// Input channels (or features).
    pub c_in: usize,
    /// Output channels (or features).
    pub channels: usize,
    /// Height and width of a convolution's kernel. `None` for a layer without one.
    pub kernel: Option<usize>,
    /// How its backward pass goes.
    pub backward: &'a mut SparseBackward,
    /// Is told how many channels each backward pass keeps, if there is one.
    pub kept_count: &'a mut Option<Arc<KeptCount>>,
}

impl SparseLayer<'_> {
    /// What it is, without its backward pass; `index` is its place among the model's sparse layers.
    pub fn info(&self, index: usize) -> LayerInfo<'_> {
        LayerInfo {
            path: self.path,
            index,
            c_in: self.c_in,
            channels: self.channels,
            kernel: self.kernel,
        }
    }
}

/// A batch norm, and the dropout after it, as a visitor of a model sees them.
#[derive(Debug)]
pub struct NormLayer<'a> {
    /// The layer's path, as in checkpoints: `layer1.0.bn1`.
    pub path: &'a str,
    /// The dropout after it.
    pub dropout: &'a mut Dropout,
    /// Its [`synchronized`](super::modules::BatchNorm2D::synchronized).
    pub synchronized: &'a mut bool,
}

/// A model (or layer, or tuple of them) whose layers can be visited: the sparse ones, and every
/// [`BatchNorm2D`](super::modules::BatchNorm2D) of this crate, after which there can be dropout.
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::nn::{builders::SparseConv2D, VisitLayers};
/// use ssprop::sparsity::DropRate;
///
/// type Net = (SparseConv2D<3, 8, 3, 1, 1>, ReLU, SparseConv2D<8, 16, 3, 2, 1>);
/// let mut net = Cpu::default().build_module::<Net, f32>();
/// net.set_drop_rate(DropRate::new(0.8)?);
/// // The first layer's input needs no gradient, and it is left dense.
/// net.visit_sparse(&mut |layer| {
///     if layer.path == "0" {
///         layer.backward.input_gradient = false;
///         layer.backward.drop_rate = DropRate::DENSE;
///     }
/// });
/// # Ok::<(), ssprop::Error>(())
/// ```
pub trait VisitLayers {
    /// Calls `f` for every layer with settings, in the order of the forward pass, with paths that begin
    /// with `path` (empty at the root). A layer without any leaves it as it is.
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        let _ = (path, f);
    }

    /// Calls `f` for every sparse layer, in the order of the forward pass.
    fn visit_sparse(&mut self, f: &mut dyn FnMut(SparseLayer<'_>)) {
        self.visit_layers_at("", &mut |layer| match layer {
            LayerMut::Sparse(layer) => f(layer),
            LayerMut::Norm(_) => (),
        });
    }

    /// Calls `f` for every layer with dropout, in the order of the forward pass.
    fn visit_dropout(&mut self, f: &mut dyn FnMut(NormLayer<'_>)) {
        self.visit_layers_at("", &mut |layer| match layer {
            LayerMut::Norm(layer) => f(layer),
            LayerMut::Sparse(_) => (),
        });
    }

    /// Sets the drop rate of every sparse layer.
    fn set_drop_rate(&mut self, drop_rate: DropRate) {
        self.visit_sparse(&mut |layer| layer.backward.drop_rate = drop_rate);
    }

    /// Sets how every sparse layer chooses what it keeps.
    fn set_selection(&mut self, selection: Selection) {
        self.visit_sparse(&mut |layer| layer.backward.selection = selection);
    }

    /// Sets what every sparse layer keeps or drops as one.
    fn set_masking(&mut self, masking: Masking) {
        self.visit_sparse(&mut |layer| layer.backward.masking = masking);
    }

    /// Sets whether dX comes from the whole of dY in every sparse layer, so that only dW and db are
    /// sparse.
    fn set_only_weight_sparse(&mut self, only_weight: bool) {
        self.visit_sparse(&mut |layer| layer.backward.only_weight_sparse = only_weight);
    }

    /// Tells every sparse layer the number of the iteration, before its forward pass: a random
    /// selection draws by it, by the layer's path and by its seed, so that each layer and iteration
    /// has a set of its own, and a run that is repeated or resumed has the same ones.
    ///
    /// [`Trainer`](crate::train::Trainer) does so itself; other selections do not need it.
    ///
    /// ```
    /// use dfdx::prelude::*;
    /// use ssprop::nn::{builders::SparseConv2D, VisitLayers};
    /// use ssprop::sparsity::{DropRate, Selection};
    ///
    /// let dev = Cpu::default();
    /// let mut conv = dev.build_module::<SparseConv2D<3, 32, 3>, f32>();
    /// conv.set_drop_rate(DropRate::new(0.8)?);
    /// conv.set_selection(Selection::Random { seed: 0, rescale: false });
    /// let x: Tensor<Rank4<2, 3, 5, 5>, f32, _> = dev.sample_normal();
    /// let mut kept_at = |iteration: u64| {
    ///     conv.set_iteration(iteration);
    ///     let dw = conv.forward(x.leaky_trace()).sum().backward().get(&conv.weight).as_vec();
    ///     let kept = |row: &[f32]| row.iter().any(|&g| g != 0.0);
    ///     dw.chunks(27).map(kept).collect::<Vec<_>>()
    /// };
    /// assert_eq!(kept_at(0), kept_at(0));
    /// assert_ne!(kept_at(0), kept_at(1));
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    fn set_iteration(&mut self, iteration: u64) {
        self.visit_sparse(&mut |layer| layer.backward.draw = Draw::new(layer.path, iteration));
    }

    /// Gives every sparse layer a new [`KeptCount`], and returns them with the layers' paths.
    fn count_kept(&mut self) -> Vec<(String, Arc<KeptCount>)> {
        let mut counts = Vec::new();
        self.visit_sparse(&mut |layer| {
            let count = Arc::<KeptCount>::default();
            *layer.kept_count = Some(count.clone());
            counts.push((layer.path.to_owned(), count));
        });
        counts
    }

    /// Drops elements with probability `rate` after every [`BatchNorm2D`](super::modules::BatchNorm2D) of this
    /// crate, each by masks of its own; 0 switches dropout off.
    ///
    /// [`Trainer`](crate::train::Trainer) tells the layers when an epoch begins; in a loop of your
    /// own call [`start_epoch`](Self::start_epoch).
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

/// `path.name`, or `name` at the root.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
    }
}
