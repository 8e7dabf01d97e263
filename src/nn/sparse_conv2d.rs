//! The convolution whose backward pass is sparse.

use std::sync::Arc;

use dfdx::dtypes::Dtype;
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
    TensorOptions,
};
use dfdx::shapes::{Const, ConstDim, Dim};
use dfdx::tensor::{Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;
use rand_distr::{Distribution, Normal};

use super::bias::{Bias, NoBias};
use super::{BackwardCost, ImageSize, LayerCost, LayerMut, SparseLayer, VisitLayers};
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::inference::{Graph, Operation, ToGraph, Value, Weight};
use crate::ops::conv2d::{conv2d_hidden, Conv2DOp, Conv2DShape, WeightShape, Window};
use crate::ops::SparseBackward;
use crate::shape::ConvDim;
use crate::sparsity::KeptCount;

/// The architecture of the layers.
pub mod builder {
    /// A convolution without bias. See [`super::SparseConv2D`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct SparseConv2D<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize = 1,
        const PADDING: usize = 0,
        const DILATION: usize = 1,
        const GROUPS: usize = 1,
    >;

    /// A convolution with bias. See [`super::BiasedSparseConv2D`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct BiasedSparseConv2D<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize = 1,
        const PADDING: usize = 0,
        const DILATION: usize = 1,
        const GROUPS: usize = 1,
    >;
}

/// The compile-time size N / G: the input channels of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotient<const N: usize, const G: usize>;

impl<const N: usize, const G: usize> Dim for Quotient<N, G> {
    fn size(&self) -> usize {
        N / G
    }
    fn from_size(size: usize) -> Option<Self> {
        (size == N / G).then_some(Self)
    }
}

impl<const N: usize, const G: usize> ConstDim for Quotient<N, G> {
    const SIZE: usize = N / G;
}

/// He's initialisation for ReLU networks: normal with variance 2 / fan-in, where fan-in is
/// C_in / groups * K * K (He et al., *Delving Deep into Rectifiers*, Eq. 10).
fn kaiming_normal<E: Dtype>(fan_in: usize) -> impl Distribution<E> {
    let std = (2.0 / fan_in as f64).sqrt();
    let normal = Normal::new(0.0, std).expect("a finite, positive deviation");
    normal.map(|x| E::from_f64(x).expect("floats convert"))
}

/// A convolution: y = conv(x, weight), and + bias if `B` is a tensor ([`BiasedSparseConv2D`]); it is
/// [`NoBias`] where nothing else is said, as before a norm.
///
/// `STRIDE`, `PADDING`, `DILATION` and `GROUPS` are 1, 0, 1 and 1 where the builder type leaves
/// them out. Forward is an ordinary convolution; at a drop rate above 0 the backward pass keeps
/// the output channels of the largest mean |dY|. The weight starts from He's normal
/// distribution (He et al., *Delving Deep into Rectifiers*, Eq. 10). `backward` is not part of a
/// checkpoint, and goes back to its default where dfdx rebuilds the module (`to_device`,
/// `to_dtype`).
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::nn::{builders::SparseConv2D, VisitLayers};
/// use ssprop::sparsity::DropRate;
///
/// let dev = Cpu::default();
/// type Net = (SparseConv2D<3, 8, 3, 1, 1>, ReLU, SparseConv2D<8, 16, 3, 2, 1>, AvgPoolGlobal, Linear<16, 10>);
/// let mut net = dev.build_module::<Net, f32>();
/// net.set_drop_rate(DropRate::new(0.8)?);
///
/// let x: Tensor<Rank4<2, 3, 32, 32>, f32, _> = dev.sample_normal();
/// let y: Tensor<Rank2<2, 10>, f32, _, _> = net.forward(x.leaky_trace());
/// let grads = y.square().mean().backward();
/// // 3 of 16 channels are kept.
/// let dw = grads.get(&net.2.weight).as_vec();
/// assert_eq!(dw.chunks(8 * 9).filter(|row| row.iter().any(|&g| g != 0.0)).count(), 3);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SparseConv2D<
    const C_IN: usize,
    const C_OUT: usize,
    const K: usize,
    const STRIDE: usize,
    const PADDING: usize,
    const DILATION: usize,
    const GROUPS: usize,
    E: Dtype,
    D: Storage<E>,
    B = NoBias,
> {
    /// (C_out, C_in / groups, K, K)
    pub weight: Tensor<WeightShape<C_OUT, Quotient<C_IN, GROUPS>, K>, E, D>,
    /// (C_out), or [`NoBias`]
    pub bias: B,
    /// How the next forward's backward pass goes: its drop rate, above all.
    pub backward: SparseBackward,
    /// Is told how many channels each backward pass keeps. Clones share it.
    pub kept_count: Option<Arc<KeptCount>>,
}

/// A convolution with bias: y = conv(x, weight) + bias. Otherwise as [`SparseConv2D`]; the bias
/// starts from 0, and its gradient too is 0 for dropped channels.
pub type BiasedSparseConv2D<
    const C_IN: usize,
    const C_OUT: usize,
    const K: usize,
    const STRIDE: usize,
    const PADDING: usize,
    const DILATION: usize,
    const GROUPS: usize,
    E,
    D,
> = SparseConv2D<
    C_IN,
    C_OUT,
    K,
    STRIDE,
    PADDING,
    DILATION,
    GROUPS,
    E,
    D,
    Tensor<(Const<C_OUT>,), E, D>,
>;

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const DILATION: usize,
        const GROUPS: usize,
        E: Dtype,
        D: Device<E>,
    > BuildOnDevice<D, E>
    for builder::SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS>
where
    SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D, NoBias>:
        BuildModule<D, E>,
{
    type Built = SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D, NoBias>;
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const DILATION: usize,
        const GROUPS: usize,
        E: Dtype,
        D: Device<E>,
    > BuildOnDevice<D, E>
    for builder::BiasedSparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS>
where
    BiasedSparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D>: BuildModule<D, E>,
{
    type Built = BiasedSparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D>;
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const DILATION: usize,
        const GROUPS: usize,
        E: Dtype,
        D: Device<E>,
        B: Bias<C_OUT, E, D>,
    > TensorCollection<E, D>
    for SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D, B>
{
    type To<E2: Dtype, D2: Device<E2>> =
        SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E2, D2, B::To<E2, D2>>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        const {
            assert!(
                C_IN > 0 && C_OUT > 0,
                "a convolution needs channels on either side"
            );
            assert!(
                K > 0 && STRIDE > 0 && DILATION > 0,
                "sizes of the window are at least 1"
            );
            assert!(
                GROUPS > 0 && C_IN.is_multiple_of(GROUPS),
                "GROUPS must divide C_IN"
            );
            assert!(C_OUT.is_multiple_of(GROUPS), "GROUPS must divide C_OUT");
        }
        let he =
            |t: &mut Tensor<_, E, D>| t.try_fill_with_distr(kaiming_normal(C_IN / GROUPS * K * K));
        let (he, zeros) = (
            TensorOptions::reset_with(he),
            TensorOptions::reset_to_zeros(),
        );
        let weight = visitor.visit_tensor("weight", |s| &s.weight, |s| &mut s.weight, he)?;
        let bias = B::visit(visitor, |s| &s.bias, |s| &mut s.bias, zeros)?;
        Ok(weight.zip(bias).map(|(weight, bias)| SparseConv2D {
            weight,
            bias,
            backward: SparseBackward::default(),
            kept_count: None,
        }))
    }
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const DILATION: usize,
        const GROUPS: usize,
        E: Dtype,
        D: Storage<E>,
        B,
    > SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D, B>
{
    const OP: Conv2DOp = Conv2DOp {
        kernel: K,
        stride: STRIDE,
        padding: PADDING,
        dilation: DILATION,
        groups: GROUPS,
    };

    /// x (B, C_in, H, W) to (B, C_out, H_out, W_out), with the whole error.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if a size known only at run time does not fit the window,
    /// [`crate::Error::Device`] if memory runs out.
    #[allow(clippy::type_complexity)]
    pub fn try_apply<N: Dim, H, W, T: Tape<E, D>>(
        &self,
        x: Tensor<(N, Const<C_IN>, H, W), E, D, T>,
    ) -> Result<Tensor<(N, Const<C_OUT>, H::Out, W::Out), E, D, T>>
    where
        D: Backend<E>,
        B: Bias<C_OUT, E, D>,
        H: ConvDim<K, STRIDE, PADDING, DILATION>,
        W: ConvDim<K, STRIDE, PADDING, DILATION>,
    {
        self.apply_hidden(x.into()).and_then(Hidden::into_tensor)
    }

    /// [`Self::try_apply`] between operations of this crate.
    pub(crate) fn apply_hidden<N: Dim, H, W, T: Tape<E, D>>(
        &self,
        x: Hidden<(N, Const<C_IN>, H, W), E, D, T>,
    ) -> Result<Hidden<(N, Const<C_OUT>, H::Out, W::Out), E, D, T>>
    where
        D: Backend<E>,
        B: Bias<C_OUT, E, D>,
        H: ConvDim<K, STRIDE, PADDING, DILATION>,
        W: ConvDim<K, STRIDE, PADDING, DILATION>,
    {
        let window = Window::<STRIDE, PADDING, DILATION, GROUPS>;
        let count = self.kept_count.clone();
        conv2d_hidden(
            x,
            &self.weight,
            self.bias.tensor(),
            window,
            self.backward,
            count,
        )
    }
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const DILATION: usize,
        const GROUPS: usize,
        N: Dim,
        H: ConvDim<K, STRIDE, PADDING, DILATION>,
        W: ConvDim<K, STRIDE, PADDING, DILATION>,
        E: Dtype,
        D: Backend<E>,
        B: Bias<C_OUT, E, D>,
        T: Tape<E, D>,
    > Module<Tensor<(N, Const<C_IN>, H, W), E, D, T>>
    for SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D, B>
{
    type Output = Tensor<(N, Const<C_OUT>, H::Out, W::Out), E, D, T>;
    type Error = D::Err;

    fn try_forward(
        &self,
        x: Tensor<(N, Const<C_IN>, H, W), E, D, T>,
    ) -> Result<Self::Output, D::Err> {
        self.try_apply(x).map_err(D::device_error)
    }
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const DILATION: usize,
        const GROUPS: usize,
        E: Dtype,
        D: Storage<E>,
        B,
    > NonMutableModule
    for SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D, B>
{
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const DILATION: usize,
        const GROUPS: usize,
        E: Dtype,
        D: Storage<E>,
        B: Bias<C_OUT, E, D>,
    > ToGraph<E> for SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D, B>
{
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let mut weights = vec![Weight::of(path, "weight", &self.weight)];
        weights.extend(
            self.bias
                .tensor()
                .map(|bias| Weight::of(path, "bias", bias)),
        );
        graph.push(path, Operation::Conv2D(Self::OP), weights, &[x])
    }
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const DILATION: usize,
        const GROUPS: usize,
        E: Dtype,
        D: Storage<E>,
        B,
    > VisitLayers for SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D, B>
{
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        f(LayerMut::Sparse(SparseLayer {
            path,
            c_in: C_IN,
            channels: C_OUT,
            kernel: Some(K),
            backward: &mut self.backward,
            kept_count: &mut self.kept_count,
        }));
    }
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const DILATION: usize,
        const GROUPS: usize,
        E: Dtype,
        D: Storage<E>,
        B,
    > BackwardCost for SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, DILATION, GROUPS, E, D, B>
{
    fn visit_cost(
        path: &str,
        [c, h, w]: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        if c != C_IN {
            return Err(Error::shape("conv2d", "input channels", C_IN, c));
        }
        let conv = Conv2DShape::new(Self::OP, [1, C_IN, h, w], C_OUT)?;
        f(path, LayerCost::Conv2D(conv));
        Ok([C_OUT, conv.output()[0], conv.output()[1]])
    }
}
