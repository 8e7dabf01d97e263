//! The linear layer whose backward pass is sparse.

use std::sync::Arc;

use dfdx::dtypes::Dtype;
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
    TensorOptions,
};
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;
use rand_distr::{Distribution, Uniform};

use super::bias::{Bias, NoBias};
use super::{BackwardCost, ImageSize, LayerCost, LayerMut, SparseLayer, VisitLayers};
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::inference::{Graph, Operation, ToGraph, Value, Weight};
use crate::ops::linear::linear_hidden;
use crate::ops::SparseBackward;
use crate::sparsity::KeptCount;

/// The architecture of the layers.
pub mod builder {
    /// A linear layer with bias. See [`super::SparseLinear`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct SparseLinear<const I: usize, const O: usize>;

    /// A linear layer without bias. See [`super::UnbiasedSparseLinear`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct UnbiasedSparseLinear<const I: usize, const O: usize>;
}

/// Uniform between -1 / sqrt(I) and 1 / sqrt(I), as dfdx's and PyTorch's linear layers start.
fn uniform<E: Dtype>(inputs: usize) -> impl Distribution<E> {
    let bound = 1.0 / (inputs as f64).sqrt();
    Uniform::new(-bound, bound).map(|x: f64| E::from_f64(x).expect("floats convert"))
}

/// A linear layer: y (B, O) = x (B, I) weightT + bias, without which it is an [`UnbiasedSparseLinear`].
///
/// Forward is an ordinary linear layer; at a drop rate above 0 the backward pass keeps the
/// output features of the largest sum of |dY| over the batch, max(floor(keep * O), 1) of them.
/// Weight and bias start uniform in +-1 / sqrt(I). `backward` is not part of a checkpoint, and
/// goes back to its default where dfdx rebuilds the module (`to_device`, `to_dtype`).
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::nn::{builders::SparseLinear, VisitLayers};
/// use ssprop::sparsity::DropRate;
///
/// let dev = Cpu::default();
/// type Net = (SparseLinear<6, 32>, Tanh, SparseLinear<32, 10>);
/// let mut net = dev.build_module::<Net, f32>();
/// net.set_drop_rate(DropRate::new(0.8)?);
///
/// let x: Tensor<Rank2<4, 6>, f32, _> = dev.sample_normal();
/// let y: Tensor<Rank2<4, 10>, f32, _, _> = net.forward(x.leaky_trace());
/// let db = y.square().mean().backward().get(&net.2.bias).array();
/// assert_eq!(db.iter().filter(|&&g| g != 0.0).count(), 2);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SparseLinear<
    const I: usize,
    const O: usize,
    E: Dtype,
    D: Storage<E>,
    B = Tensor<(Const<O>,), E, D>,
> {
    /// (O, I)
    pub weight: Tensor<(Const<O>, Const<I>), E, D>,
    /// (O), or [`NoBias`]
    pub bias: B,
    /// How the next forward's backward pass goes: its drop rate, above all.
    pub backward: SparseBackward,
    /// Is told how many features each backward pass keeps. Clones share it.
    pub kept_count: Option<Arc<KeptCount>>,
}

/// A linear layer without bias: y (B, O) = x (B, I) weightT. Otherwise as [`SparseLinear`].
pub type UnbiasedSparseLinear<const I: usize, const O: usize, E, D> =
    SparseLinear<I, O, E, D, NoBias>;

impl<const I: usize, const O: usize, E: Dtype, D: Device<E>> BuildOnDevice<D, E>
    for builder::SparseLinear<I, O>
where
    SparseLinear<I, O, E, D>: BuildModule<D, E>,
{
    type Built = SparseLinear<I, O, E, D>;
}

impl<const I: usize, const O: usize, E: Dtype, D: Device<E>> BuildOnDevice<D, E>
    for builder::UnbiasedSparseLinear<I, O>
where
    UnbiasedSparseLinear<I, O, E, D>: BuildModule<D, E>,
{
    type Built = UnbiasedSparseLinear<I, O, E, D>;
}

impl<const I: usize, const O: usize, E: Dtype, D: Device<E>, B: Bias<O, E, D>>
    TensorCollection<E, D> for SparseLinear<I, O, E, D, B>
{
    type To<E2: Dtype, D2: Device<E2>> = SparseLinear<I, O, E2, D2, B::To<E2, D2>>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        const {
            assert!(
                I > 0 && O > 0,
                "a linear layer needs features on either side"
            )
        }
        let reset = TensorOptions::reset_with(|t| t.try_fill_with_distr(uniform(I)));
        let weight = visitor.visit_tensor("weight", |s| &s.weight, |s| &mut s.weight, reset)?;
        let reset = TensorOptions::reset_with(|t| t.try_fill_with_distr(uniform(I)));
        let bias = B::visit(visitor, |s| &s.bias, |s| &mut s.bias, reset)?;
        Ok(weight.zip(bias).map(|(weight, bias)| SparseLinear {
            weight,
            bias,
            backward: SparseBackward::default(),
            kept_count: None,
        }))
    }
}

impl<const I: usize, const O: usize, E: Dtype, D: Storage<E>, B> SparseLinear<I, O, E, D, B> {
    /// x (N, I) to (N, O), with the whole error.
    ///
    /// # Errors
    /// Those of [`linear`](crate::ops::linear::linear).
    pub fn try_apply<N: Dim, T: Tape<E, D>>(
        &self,
        x: Tensor<(N, Const<I>), E, D, T>,
    ) -> Result<Tensor<(N, Const<O>), E, D, T>>
    where
        D: Backend<E>,
        B: Bias<O, E, D>,
    {
        self.apply_hidden(x.into()).and_then(Hidden::into_tensor)
    }

    /// [`Self::try_apply`] of a hidden tensor.
    pub(crate) fn apply_hidden<N: Dim, T: Tape<E, D>>(
        &self,
        x: Hidden<(N, Const<I>), E, D, T>,
    ) -> Result<Hidden<(N, Const<O>), E, D, T>>
    where
        D: Backend<E>,
        B: Bias<O, E, D>,
    {
        linear_hidden(
            x,
            &self.weight,
            self.bias.tensor(),
            self.backward,
            self.kept_count.clone(),
        )
    }
}

impl<
        const I: usize,
        const O: usize,
        N: Dim,
        E: Dtype,
        D: Backend<E>,
        B: Bias<O, E, D>,
        T: Tape<E, D>,
    > Module<Tensor<(N, Const<I>), E, D, T>> for SparseLinear<I, O, E, D, B>
{
    type Output = Tensor<(N, Const<O>), E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, x: Tensor<(N, Const<I>), E, D, T>) -> Result<Self::Output, D::Err> {
        self.try_apply(x).map_err(D::device_error)
    }
}

impl<const I: usize, const O: usize, E: Dtype, D: Storage<E>, B> NonMutableModule
    for SparseLinear<I, O, E, D, B>
{
}

impl<const I: usize, const O: usize, E: Dtype, D: Storage<E>, B: Bias<O, E, D>> ToGraph<E>
    for SparseLinear<I, O, E, D, B>
{
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let mut weights = vec![Weight::of(path, "weight", &self.weight)];
        weights.extend(
            self.bias
                .tensor()
                .map(|bias| Weight::of(path, "bias", bias)),
        );
        graph.push(path, Operation::Linear, weights, &[x])
    }
}

impl<const I: usize, const O: usize, E: Dtype, D: Storage<E>, B> VisitLayers
    for SparseLinear<I, O, E, D, B>
{
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        f(LayerMut::Sparse(SparseLayer {
            path,
            c_in: I,
            channels: O,
            kernel: None,
            backward: &mut self.backward,
            kept_count: &mut self.kept_count,
        }));
    }
}

impl<const I: usize, const O: usize, E: Dtype, D: Storage<E>, B> BackwardCost
    for SparseLinear<I, O, E, D, B>
{
    fn visit_cost(
        path: &str,
        [c, h, w]: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        if c.checked_mul(h).and_then(|n| n.checked_mul(w)) != Some(I) {
            return Err(Error::shape("linear", "input features", I, [c, h, w]));
        }
        f(
            path,
            LayerCost::Linear {
                inputs: I,
                outputs: O,
            },
        );
        Ok([O, 1, 1])
    }
}
