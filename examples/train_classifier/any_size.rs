//! Networks that are compiled once for images of all sizes.

use dfdx::nn::{BuildOnDevice, Module, ModuleMut, ModuleVisitor, TensorCollection};
use dfdx::prelude::*;
use ssprop::nn::{BackwardCost, ImageSize, LayerCost, LayerMut};
use ssprop::prelude::VisitLayers;
use ssprop::train::Images;
use ssprop::{Backend, Error};

/// A batch of images whose size is known at run time only.
type Sized<const C: usize, D, T> = Tensor<(usize, Const<C>, usize, usize), f32, D, T>;

/// A network behind images of sizes that the compiler knows, which it is not told: what is compiled
/// for one task is then used by all.
///
/// To its parent it looks like the network itself; its tensors have the same names.
#[derive(Clone, Debug)]
pub struct AnySize<M>(pub M);

impl<D: Device<E>, E: Dtype, B: BuildOnDevice<D, E>> BuildOnDevice<D, E> for AnySize<B>
where
    AnySize<B::Built>: BuildModule<D, E>,
{
    type Built = AnySize<B::Built>;
}

fn any_size<const C: usize, const H: usize, const W: usize, D: Backend<f32>, T: Tape<f32, D>>(
    x: Images<C, H, W, D, T>,
) -> ssprop::Result<Sized<C, D, T>> {
    let shape = *x.shape();
    x.try_realize()
        .map_err(|_| Error::shape("AnySize", "images", shape, "another size"))
}

impl<M, D: Backend<f32>, const C: usize, const H: usize, const W: usize>
    Module<Images<C, H, W, D, NoneTape>> for AnySize<M>
where
    M: Module<Sized<C, D, NoneTape>, Error: Into<Error>>,
{
    type Output = M::Output;
    type Error = Error;

    fn try_forward(&self, x: Images<C, H, W, D, NoneTape>) -> ssprop::Result<M::Output> {
        self.0.try_forward(any_size(x)?).map_err(Into::into)
    }
}

impl<M, D: Backend<f32>, const C: usize, const H: usize, const W: usize>
    ModuleMut<Images<C, H, W, D, OwnedTape<f32, D>>> for AnySize<M>
where
    M: ModuleMut<Sized<C, D, OwnedTape<f32, D>>, Error: Into<Error>>,
{
    type Output = M::Output;
    type Error = Error;

    fn try_forward_mut(
        &mut self,
        x: Images<C, H, W, D, OwnedTape<f32, D>>,
    ) -> ssprop::Result<M::Output> {
        self.0.try_forward_mut(any_size(x)?).map_err(Into::into)
    }
}

impl<E: Dtype, D: Device<E>, M: TensorCollection<E, D>> TensorCollection<E, D> for AnySize<M> {
    type To<E2: Dtype, D2: Device<E2>> = AnySize<M::To<E2, D2>>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(
            Self::module("", |s: &Self| &s.0, |s: &mut Self| &mut s.0),
            AnySize,
        )
    }
}

impl<M: VisitLayers> VisitLayers for AnySize<M> {
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        self.0.visit_layers_at(path, f);
    }
}

impl<M: BackwardCost> BackwardCost for AnySize<M> {
    fn visit_cost(
        path: &str,
        input: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> ssprop::Result<ImageSize> {
        M::visit_cost(path, input, f)
    }
}
