//! The layers of the N-layer CNN that are all alike.

use dfdx::dtypes::Dtype;
use dfdx::nn::{Module, ModuleMut, ModuleVisitor, TensorCollection};
use dfdx::tensor::Storage;
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;

use super::{ConvBlock, WIDTH};
use crate::error::{Error, Result};
use crate::inference::{Graph, ToGraph, Value};
use crate::nn::{join, BackwardCost, ImageSize, LayerCost, LayerMut, VisitLayers};

type Block<E, D> = ConvBlock<WIDTH, WIDTH, E, D>;

/// The third and the later layers of a CNN of LAYERS convolutions, one after the other.
///
/// dfdx's [`Repeated`](dfdx::nn::modules::Repeated) would have to be told LAYERS - 2, which stable
/// Rust cannot compute in a type.
#[derive(Clone, Debug)]
pub struct ConvTail<const LAYERS: usize, E: Dtype, D: Storage<E>> {
    /// The LAYERS - 2 layers.
    pub blocks: Vec<Block<E, D>>,
}

impl<const LAYERS: usize, E: Dtype, D: Storage<E>> ConvTail<LAYERS, E, D> {
    const LEN: usize = {
        assert!(LAYERS >= 2, "a CNN has at least 2 convolutions");
        LAYERS - 2
    };
}

impl<const LAYERS: usize, E: Dtype + num_traits::Float + SampleUniform, D: Device<E>>
    TensorCollection<E, D> for ConvTail<LAYERS, E, D>
{
    type To<E2: Dtype, D2: Device<E2>> = ConvTail<LAYERS, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        let names: Vec<String> = (0..Self::LEN).map(|i| i.to_string()).collect();
        let fields = names.iter().enumerate().map(|(i, name)| {
            Self::module(
                name,
                move |s: &Self| &s.blocks[i],
                move |s: &mut Self| &mut s.blocks[i],
            )
        });
        visitor.visit_fields(fields.collect::<Vec<_>>(), |blocks| ConvTail { blocks })
    }
}

impl<const LAYERS: usize, E: Dtype, D: Storage<E>, X> Module<X> for ConvTail<LAYERS, E, D>
where
    Block<E, D>: Module<X, Output = X, Error = Error>,
{
    type Output = X;
    type Error = Error;

    fn try_forward(&self, x: X) -> Result<X> {
        let mut blocks = self.blocks.iter();
        blocks.try_fold(x, |x, block| block.try_forward(x))
    }
}

impl<const LAYERS: usize, E: Dtype, D: Storage<E>, X> ModuleMut<X> for ConvTail<LAYERS, E, D>
where
    Block<E, D>: ModuleMut<X, Output = X, Error = Error>,
{
    type Output = X;
    type Error = Error;

    fn try_forward_mut(&mut self, x: X) -> Result<X> {
        let mut blocks = self.blocks.iter_mut();
        blocks.try_fold(x, |x, block| block.try_forward_mut(x))
    }
}

impl<const LAYERS: usize, E: Dtype, D: Storage<E>> ToGraph<E> for ConvTail<LAYERS, E, D> {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        self.blocks.add_to(graph, path, x)
    }
}

impl<const LAYERS: usize, E: Dtype, D: Storage<E>> VisitLayers for ConvTail<LAYERS, E, D> {
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        self.blocks.visit_layers_at(path, f);
    }
}

impl<const LAYERS: usize, E: Dtype, D: Storage<E>> BackwardCost for ConvTail<LAYERS, E, D> {
    fn visit_cost(
        path: &str,
        mut size: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        for i in 0..Self::LEN {
            size = Block::<E, D>::visit_cost(&join(path, &i.to_string()), size, f)?;
        }
        Ok(size)
    }
}
