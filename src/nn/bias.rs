//! The bias of a layer that may have one.

use dfdx::dtypes::Dtype;
use dfdx::nn::{ModuleVisitor, TensorCollection, TensorOptions};
use dfdx::shapes::Const;
use dfdx::tensor::{Storage, Tensor};
use dfdx::tensor_ops::Device;

/// In place of a layer's bias: it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoBias;

/// What a layer has for its bias: a tensor (O), or [`NoBias`].
pub trait Bias<const O: usize, E: Dtype, D: Storage<E>>: Sized {
    /// The same of another element type, on another device.
    type To<E2: Dtype, D2: Device<E2>>;

    /// The tensor, if there is one.
    fn tensor(&self) -> Option<&Tensor<(Const<O>,), E, D>>;

    /// Shows the tensor, if there is one, to a visitor of the layer `M`; what the visitor made of it.
    ///
    /// # Errors
    /// The visitor's.
    fn visit<M: TensorCollection<E, D>, V: ModuleVisitor<M, E, D>>(
        visitor: &mut V,
        get: impl FnMut(&M) -> &Self,
        get_mut: impl FnMut(&mut M) -> &mut Self,
        options: TensorOptions<(Const<O>,), E, D>,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err>
    where
        D: Device<E>;
}

impl<const O: usize, E: Dtype, D: Storage<E>> Bias<O, E, D> for Tensor<(Const<O>,), E, D> {
    type To<E2: Dtype, D2: Device<E2>> = Tensor<(Const<O>,), E2, D2>;

    fn tensor(&self) -> Option<&Self> {
        Some(self)
    }

    fn visit<M: TensorCollection<E, D>, V: ModuleVisitor<M, E, D>>(
        visitor: &mut V,
        get: impl FnMut(&M) -> &Self,
        get_mut: impl FnMut(&mut M) -> &mut Self,
        options: TensorOptions<(Const<O>,), E, D>,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err>
    where
        D: Device<E>,
    {
        visitor.visit_tensor("bias", get, get_mut, options)
    }
}

impl<const O: usize, E: Dtype, D: Storage<E>> Bias<O, E, D> for NoBias {
    type To<E2: Dtype, D2: Device<E2>> = Self;

    fn tensor(&self) -> Option<&Tensor<(Const<O>,), E, D>> {
        None
    }

    fn visit<M: TensorCollection<E, D>, V: ModuleVisitor<M, E, D>>(
        _: &mut V,
        _: impl FnMut(&M) -> &Self,
        _: impl FnMut(&mut M) -> &mut Self,
        _: TensorOptions<(Const<O>,), E, D>,
    ) -> Result<Option<Self>, V::Err>
    where
        D: Device<E>,
    {
        Ok(Some(Self))
    }
}
