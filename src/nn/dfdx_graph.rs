//! Graphs of dfdx's layers, and of what holds layers.

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::{
    AvgPoolGlobal, BatchNorm2D, Dropout, DropoutOneIn, GeneralizedResidual, Linear, ReLU, Repeated,
    Residual,
};
use dfdx::tensor::Storage;

use super::join;
use crate::error::Result;
use crate::inference::{Graph, Operation, ToGraph, Value, Weight};

impl<const I: usize, const O: usize, E: Dtype, D: Storage<E>> ToGraph<E> for Linear<I, O, E, D> {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let weights = vec![
            Weight::of(path, "weight", &self.weight),
            Weight::of(path, "bias", &self.bias),
        ];
        graph.push(path, Operation::Linear, weights, &[x])
    }
}

impl<const C: usize, E: Dtype, D: Storage<E>> ToGraph<E> for BatchNorm2D<C, E, D> {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let weights = vec![
            Weight::of(path, "scale", &self.scale),
            Weight::of(path, "bias", &self.bias),
            Weight::of(path, "running_mean", &self.running_mean),
            Weight::of(path, "running_var", &self.running_var),
        ];
        let eps = self.epsilon;
        graph.push(path, Operation::BatchNorm2D { eps }, weights, &[x])
    }
}

impl<E: Dtype> ToGraph<E> for ReLU {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        graph.push(path, Operation::ReLU, Vec::new(), &[x])
    }
}

impl<E: Dtype> ToGraph<E> for AvgPoolGlobal {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        graph.push(path, Operation::GlobalAvgPool, Vec::new(), &[x])
    }
}

/// Layers that do nothing in evaluation mode.
macro_rules! nothing {
    ($([$($generics:tt)*] $layer:ty),*) => {$(
        impl<E, $($generics)*> ToGraph<E> for $layer {
            fn add_to(&self, _: &mut Graph<E>, _: &str, x: Value) -> Result<Value> {
                Ok(x)
            }
        }
    )*};
}
nothing!([] (), [] Dropout, [const N: usize] DropoutOneIn<N>);

macro_rules! tuples {
    ($(($($name:ident $index:tt),+))*) => {$(
        impl<Element, $($name: ToGraph<Element>),+> ToGraph<Element> for ($($name,)+) {
            fn add_to(&self, graph: &mut Graph<Element>, path: &str, x: Value) -> Result<Value> {
                $(let x = self.$index.add_to(graph, &join(path, stringify!($index)), x)?;)+
                Ok(x)
            }
        }
    )*};
}
super::dfdx_layers::each_tuple!(tuples);

impl<E, T: ToGraph<E>> ToGraph<E> for Vec<T> {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let mut layers = self.iter().enumerate();
        layers.try_fold(x, |x, (i, layer)| {
            layer.add_to(graph, &join(path, &i.to_string()), x)
        })
    }
}

impl<E, T: ToGraph<E>, const N: usize> ToGraph<E> for Repeated<T, N> {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        self.modules.add_to(graph, path, x)
    }
}

impl<E: Dtype, T: ToGraph<E>> ToGraph<E> for Residual<T> {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let y = self.0.add_to(graph, &join(path, "0"), x)?;
        graph.push(path, Operation::Add, Vec::new(), &[y, x])
    }
}

impl<E: Dtype, A: ToGraph<E>, B: ToGraph<E>> ToGraph<E> for GeneralizedResidual<A, B> {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let y = self.f.add_to(graph, &join(path, "f"), x)?;
        let shortcut = self.r.add_to(graph, &join(path, "r"), x)?;
        graph.push(path, Operation::Add, Vec::new(), &[y, shortcut])
    }
}
