//! How a dropout rate reaches the layers of a model.

use super::join;
use super::modules;
use super::Dropout;
use crate::error::Result;
use crate::kernels::args::dropout::mix;

/// A layer with dropout after it, as a visitor of a model sees it.
#[derive(Debug)]
pub struct DropoutLayer<'a> {
    /// The layer's path, as in checkpoints: `layer1.0.bn1`.
    pub path: &'a str,
    /// The dropout after it.
    pub dropout: &'a mut Dropout,
}

/// A model (or layer, or tuple of them) whose dropout can be visited: that after every
/// [`BatchNorm2D`](modules::BatchNorm2D) of this crate.
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
    /// `path` (empty at the root).
    fn visit_dropout_at(&mut self, path: &str, f: &mut dyn FnMut(DropoutLayer<'_>));

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

    /// Begins epoch number `epoch`, whose masks are those of no other epoch.
    fn start_epoch(&mut self, epoch: u64) {
        self.visit_dropout(&mut |layer| layer.dropout.start_epoch(epoch));
    }
}

impl<const C: usize, E: dfdx::dtypes::Dtype, D: dfdx::tensor::Storage<E>> VisitDropout
    for modules::BatchNorm2D<C, E, D>
{
    fn visit_dropout_at(&mut self, path: &str, f: &mut dyn FnMut(DropoutLayer<'_>)) {
        f(DropoutLayer {
            path,
            dropout: &mut self.dropout,
        });
    }
}

/// Layers without dropout of ours.
macro_rules! no_dropout {
    ($([$($generics:tt)*] $layer:ty),* $(,)?) => {$(
        impl<$($generics)*> VisitDropout for $layer {
            fn visit_dropout_at(&mut self, _: &str, _: &mut dyn FnMut(DropoutLayer<'_>)) {}
        }
    )*};
}
no_dropout!(
    [] (),
    [] modules::ReLU,
    [] modules::SiLU,
    [] modules::GlobalAvgPool,
    [const K: usize, const S: usize, const P: usize] modules::MaxPool2D<K, S, P>,
    [const K: usize, const S: usize, const P: usize] modules::AvgPool2D<K, S, P>,
    [
        const I: usize, const O: usize, const K: usize, const S: usize, const P: usize,
        const L: usize, const G: usize, E: dfdx::dtypes::Dtype, D: dfdx::tensor::Storage<E>
    ] modules::SparseConv2D<I, O, K, S, P, L, G, E, D>,
    [
        const I: usize, const O: usize, const K: usize, const S: usize, const P: usize,
        const L: usize, const G: usize, E: dfdx::dtypes::Dtype, D: dfdx::tensor::Storage<E>
    ] modules::BiasedSparseConv2D<I, O, K, S, P, L, G, E, D>,
    [
        const I: usize, const O: usize, E: dfdx::dtypes::Dtype, D: dfdx::tensor::Storage<E>
    ] modules::SparseLinear<I, O, E, D>,
    [
        const I: usize, const O: usize, E: dfdx::dtypes::Dtype, D: dfdx::tensor::Storage<E>
    ] modules::UnbiasedSparseLinear<I, O, E, D>,
    [const N: usize] modules::Flatten<N>,
    [
        const G: usize, const C: usize, E: dfdx::dtypes::Dtype, D: dfdx::tensor::Storage<E>
    ] modules::GroupNorm<G, C, E, D>,
    [
        const H: usize, const G: usize, const C: usize,
        E: dfdx::dtypes::Dtype, D: dfdx::tensor::Storage<E>
    ] modules::AttentionBlock<H, G, C, E, D>,
    [
        I: dfdx::shapes::ConstDim, O: dfdx::shapes::ConstDim,
        E: dfdx::dtypes::Dtype, D: dfdx::tensor::Storage<E>
    ] modules::PointwiseConv1D<I, O, E, D>,
    [] dfdx::nn::modules::ReLU,
    [] dfdx::nn::modules::FastGeLU,
    [] dfdx::nn::modules::Sigmoid,
    [] dfdx::nn::modules::Tanh,
    [] dfdx::nn::modules::Dropout,
    [const N: usize] dfdx::nn::modules::DropoutOneIn<N>,
    [] dfdx::nn::modules::AvgPoolGlobal,
    [] dfdx::nn::modules::MaxPoolGlobal,
    [
        const I: usize, const O: usize, E: dfdx::dtypes::Dtype, D: dfdx::tensor::Storage<E>
    ] dfdx::nn::modules::Linear<I, O, E, D>,
    [
        const C: usize, E: dfdx::dtypes::Dtype, D: dfdx::tensor::Storage<E>
    ] dfdx::nn::modules::BatchNorm2D<C, E, D>,
);

macro_rules! tuples {
    ($(($($name:ident $index:tt),+))*) => {$(
        impl<$($name: VisitDropout),+> VisitDropout for ($($name,)+) {
            fn visit_dropout_at(&mut self, path: &str, f: &mut dyn FnMut(DropoutLayer<'_>)) {
                $(self.$index.visit_dropout_at(&join(path, stringify!($index)), f);)+
            }
        }
    )*};
}
tuples!(
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
);

impl<T: VisitDropout> VisitDropout for Vec<T> {
    fn visit_dropout_at(&mut self, path: &str, f: &mut dyn FnMut(DropoutLayer<'_>)) {
        for (i, layer) in self.iter_mut().enumerate() {
            layer.visit_dropout_at(&join(path, &i.to_string()), f);
        }
    }
}

impl<T: VisitDropout, const N: usize> VisitDropout for dfdx::nn::modules::Repeated<T, N> {
    fn visit_dropout_at(&mut self, path: &str, f: &mut dyn FnMut(DropoutLayer<'_>)) {
        self.modules.visit_dropout_at(path, f);
    }
}

impl<T: VisitDropout> VisitDropout for dfdx::nn::modules::Residual<T> {
    fn visit_dropout_at(&mut self, path: &str, f: &mut dyn FnMut(DropoutLayer<'_>)) {
        self.0.visit_dropout_at(&join(path, "0"), f);
    }
}

impl<A: VisitDropout, B: VisitDropout> VisitDropout
    for dfdx::nn::modules::GeneralizedResidual<A, B>
{
    fn visit_dropout_at(&mut self, path: &str, f: &mut dyn FnMut(DropoutLayer<'_>)) {
        self.f.visit_dropout_at(&join(path, "f"), f);
        self.r.visit_dropout_at(&join(path, "r"), f);
    }
}
