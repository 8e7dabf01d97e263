//! dfdx's own layers between ours, and what holds layers: tuples, lists, residual branches.

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::{
    AvgPoolGlobal, BatchNorm2D, Dropout, DropoutOneIn, FastGeLU, GeneralizedResidual, Linear,
    MaxPoolGlobal, ReLU, Repeated, Residual, Sigmoid, Tanh,
};
use dfdx::tensor::Storage;

use super::plain_layer::plain_layer;
use super::{join, BackwardCost, ImageSize, LayerCost, LayerMut, VisitLayers};
use crate::error::{Error, Result};

plain_layer!([] (), [] ReLU, [] FastGeLU, [] Sigmoid, [] Tanh);
plain_layer!([] AvgPoolGlobal: |x| Ok([x[0], 1, 1]));
plain_layer!([] MaxPoolGlobal: |x| Ok([x[0], 1, 1]));
plain_layer!([const I: usize, const O: usize, E: Dtype, D: Storage<E>] Linear<I, O, E, D>: |_x| Ok([O, 1, 1]));

/// dfdx's layers whose FLOPs are counted.
macro_rules! counted {
    ($([$($generics:tt)*] $layer:ty: $cost:ident;)*) => {$(
        impl<$($generics)*> VisitLayers for $layer {}
        impl<$($generics)*> BackwardCost for $layer {
            fn visit_cost(
                path: &str,
                input: ImageSize,
                f: &mut dyn FnMut(&str, LayerCost),
            ) -> Result<ImageSize> {
                f(path, LayerCost::$cost(input));
                Ok(input)
            }
        }
    )*};
}
counted!(
    [] Dropout: Dropout;
    [const N: usize] DropoutOneIn<N>: Dropout;
);

impl<const C: usize, E: Dtype, D: Storage<E>> VisitLayers for BatchNorm2D<C, E, D> {}
impl<const C: usize, E: Dtype, D: Storage<E>> BackwardCost for BatchNorm2D<C, E, D> {
    fn visit_cost(
        path: &str,
        input: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        super::modules::BatchNorm2D::<C, E, D>::visit_cost(path, input, f)
    }
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),+))*) => {$(
        impl<$($name: VisitLayers),+> VisitLayers for ($($name,)+) {
            fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
                $(self.$index.visit_layers_at(&join(path, stringify!($index)), f);)+
            }
        }

        impl<$($name: BackwardCost),+> BackwardCost for ($($name,)+) {
            fn visit_cost(
                path: &str,
                size: ImageSize,
                f: &mut dyn FnMut(&str, LayerCost),
            ) -> Result<ImageSize> {
                $(let size = $name::visit_cost(&join(path, stringify!($index)), size, f)?;)+
                Ok(size)
            }
        }
    )*};
}
/// Calls a macro with the tuples that dfdx has modules of: each element's type, and its place.
macro_rules! each_tuple {
    ($macro:ident) => {
        $macro!(
            (A 0)
            (A 0, B 1)
            (A 0, B 1, C 2)
            (A 0, B 1, C 2, D 3)
            (A 0, B 1, C 2, D 3, E 4)
            (A 0, B 1, C 2, D 3, E 4, F 5)
        );
    };
}
pub(super) use each_tuple;
each_tuple!(tuples);

impl<T: VisitLayers> VisitLayers for Vec<T> {
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        for (i, layer) in self.iter_mut().enumerate() {
            layer.visit_layers_at(&join(path, &i.to_string()), f);
        }
    }
}

impl<T: VisitLayers, const N: usize> VisitLayers for Repeated<T, N> {
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        self.modules.visit_layers_at(path, f);
    }
}

impl<T: BackwardCost, const N: usize> BackwardCost for Repeated<T, N> {
    fn visit_cost(
        path: &str,
        mut size: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        for i in 0..N {
            size = T::visit_cost(&join(path, &i.to_string()), size, f)?;
        }
        Ok(size)
    }
}

impl<T: VisitLayers> VisitLayers for Residual<T> {
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        self.0.visit_layers_at(&join(path, "0"), f);
    }
}

impl<T: BackwardCost> BackwardCost for Residual<T> {
    fn visit_cost(
        path: &str,
        input: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        summed(T::visit_cost(&join(path, "0"), input, f)?, input)
    }
}

impl<A: VisitLayers, B: VisitLayers> VisitLayers for GeneralizedResidual<A, B> {
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        self.f.visit_layers_at(&join(path, "f"), f);
        self.r.visit_layers_at(&join(path, "r"), f);
    }
}

impl<A: BackwardCost, B: BackwardCost> BackwardCost for GeneralizedResidual<A, B> {
    fn visit_cost(
        path: &str,
        input: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        let main = A::visit_cost(&join(path, "f"), input, f)?;
        summed(main, B::visit_cost(&join(path, "r"), input, f)?)
    }
}

/// The size of the sum of two branches.
fn summed(main: ImageSize, shortcut: ImageSize) -> Result<ImageSize> {
    if main == shortcut {
        return Ok(main);
    }
    let what = "branches' outputs";
    Err(Error::shape("residual", what, main, shortcut))
}
