//! Layer normalisation over the channels of each position.

use dfdx::dtypes::Dtype;
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
    TensorOptions,
};
use dfdx::shapes::Rank1;
use dfdx::tensor::{Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;

use super::plain_layer::plain_layer;
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::inference::{Graph, Operation, ToGraph, Value, Weight};
use crate::ops::layer_norm::{layer_norm_hidden, Channels, LayerNormOp};

/// The description of the layer.
pub mod builder {
    /// Describes a [layer normalisation](crate::nn::modules::LayerNorm) of `C` channels.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct LayerNorm<const C: usize>;
}

/// Layer normalisation over the `C` channels of (B, C), or of each position of (B, C, H, W)
/// ([Ba et al., 2016](https://arxiv.org/abs/1607.06450)).
///
/// It does the same in training and in inference. The tensors have PyTorch's names in a checkpoint. `eps` is
/// not part of it, and goes back to its default where dfdx rebuilds the module (`to_device`, `to_dtype`).
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::nn::builders::LayerNorm;
///
/// let dev = Cpu::default();
/// let norm = dev.build_module::<LayerNorm<6>, f32>();
/// let tokens: Tensor<Rank4<4, 6, 7, 7>, f32, _> = dev.sample_normal();
/// let pooled: Tensor<Rank2<4, 6>, f32, _> = dev.sample_normal();
/// let y = norm.try_apply(tokens.leaky_trace())?;
/// let grads = y.square().mean().backward();
/// assert!(grads.get(&norm.weight).array().iter().all(|&g| g > 0.0));
/// let _ = norm.forward(pooled);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm<const C: usize, E: Dtype, D: Storage<E>> {
    /// The scale of each channel. Ones at first.
    pub weight: Tensor<Rank1<C>, E, D>,
    /// Added to each channel. Zeros at first.
    pub bias: Tensor<Rank1<C>, E, D>,
    /// Added to the variance before the square root is taken. 1e-6 at first, as in vision transformers
    /// (PyTorch's layer has 1e-5 where nothing is said).
    pub eps: f64,
}

impl<const C: usize, E: Dtype, D: Backend<E>> LayerNorm<C, E, D> {
    /// The normalised x, with the whole error.
    ///
    /// # Errors
    /// As [`try_layer_norm`](crate::ops::layer_norm::try_layer_norm).
    pub fn try_apply<S: Channels<C>, T: Tape<E, D>>(
        &self,
        x: Tensor<S, E, D, T>,
    ) -> Result<Tensor<S, E, D, T>> {
        self.apply_hidden(x.into()).and_then(Hidden::into_tensor)
    }

    /// [`Self::try_apply`] between operations of this crate.
    pub(crate) fn apply_hidden<S: Channels<C>, T: Tape<E, D>>(
        &self,
        x: Hidden<S, E, D, T>,
    ) -> Result<Hidden<S, E, D, T>> {
        let op = LayerNormOp { eps: self.eps };
        layer_norm_hidden(x, &self.weight, &self.bias, op)
    }
}

impl<const C: usize, S: Channels<C>, E: Dtype, D: Backend<E>, T: Tape<E, D>>
    Module<Tensor<S, E, D, T>> for LayerNorm<C, E, D>
{
    type Output = Tensor<S, E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, x: Tensor<S, E, D, T>) -> Result<Self::Output, D::Err> {
        self.try_apply(x).map_err(D::device_error)
    }
}

impl<const C: usize, E: Dtype, D: Storage<E>> NonMutableModule for LayerNorm<C, E, D> {}

impl<const C: usize, E: Dtype, D: Device<E>> BuildOnDevice<D, E> for builder::LayerNorm<C>
where
    LayerNorm<C, E, D>: BuildModule<D, E>,
{
    type Built = LayerNorm<C, E, D>;
}

impl<const C: usize, E: Dtype, D: Device<E>> TensorCollection<E, D> for LayerNorm<C, E, D> {
    type To<E2: Dtype, D2: Device<E2>> = LayerNorm<C, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        const { assert!(C > 0, "a norm needs channels") }
        visitor.visit_fields(
            (
                Self::tensor(
                    "weight",
                    |m| &m.weight,
                    |m| &mut m.weight,
                    TensorOptions::reset_to_ones(),
                ),
                Self::tensor(
                    "bias",
                    |m| &m.bias,
                    |m| &mut m.bias,
                    TensorOptions::reset_to_zeros(),
                ),
            ),
            |(weight, bias)| LayerNorm {
                weight,
                bias,
                eps: LayerNormOp::default().eps,
            },
        )
    }
}

impl<const C: usize, E: Dtype, D: Storage<E>> ToGraph<E> for LayerNorm<C, E, D> {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let weights = vec![
            Weight::of(path, "weight", &self.weight),
            Weight::of(path, "bias", &self.bias),
        ];
        graph.push(path, Operation::LayerNorm { eps: self.eps }, weights, &[x])
    }
}

plain_layer!([const C: usize, E: Dtype, D: Storage<E>] LayerNorm<C, E, D>: |x| match x[0] {
    c if c != C => Err(Error::shape("layer norm", "input channels", C, c)),
    _ => Ok(x),
});
