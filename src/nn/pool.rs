//! Pooling layers.

use dfdx::dtypes::Dtype;
use dfdx::nn::{Module, NonMutableModule, ZeroSizedModule};
use dfdx::shapes::Dim;
use dfdx::tensor::{Tape, Tensor};

use super::plain_layer::plain_layer;
use super::ImageSize;
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::inference::{Graph, Operation, PoolWindow, ToGraph, Value};
use crate::ops::pool::{
    max_pool2d_hidden, try_avg_pool2d, try_global_avg_pool2d, try_max_pool2d, Pool2D, Pooled,
};
use crate::shape::{window_count, ConvDim};

macro_rules! pool {
    ($(#[$meta:meta])* $name:ident, $op:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name<const K: usize, const S: usize = 1, const P: usize = 0>;

        impl<const K: usize, const S: usize, const P: usize> ZeroSizedModule for $name<K, S, P> {}
        impl<const K: usize, const S: usize, const P: usize> NonMutableModule for $name<K, S, P> {}

        impl<const K: usize, const S: usize, const P: usize, B, C, H, W, E, D, T>
            Module<Tensor<(B, C, H, W), E, D, T>> for $name<K, S, P>
        where
            B: Dim,
            C: Dim,
            H: ConvDim<K, S, P, 1>,
            W: ConvDim<K, S, P, 1>,
            E: Dtype,
            D: Backend<E>,
            T: Tape<E, D>,
        {
            type Output = Tensor<Pooled<B, C, H, W, K, S, P>, E, D, T>;
            type Error = D::Err;

            fn try_forward(
                &self,
                x: Tensor<(B, C, H, W), E, D, T>,
            ) -> Result<Self::Output, D::Err> {
                $op(x, Pool2D::<K, S, P>).map_err(D::device_error)
            }
        }

        impl<const K: usize, const S: usize, const P: usize, E: Dtype> ToGraph<E> for $name<K, S, P> {
            fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
                let window = PoolWindow {
                    kernel: K,
                    stride: S,
                    padding: P,
                };
                graph.push(path, Operation::$name(window), Vec::new(), &[x])
            }
        }
    };
}

pool! {
    /// The maximum over windows of `K` by `K` elements, `S` apart, with `P` rows and columns of
    /// padding at each edge: (B, C, H, W) -> (B, C, H', W'). See [`try_max_pool2d`].
    ///
    /// ```
    /// use dfdx::prelude::*;
    /// use ssprop::nn::builders::MaxPool2D;
    ///
    /// // The pool of a ResNet's stem.
    /// let dev = Cpu::default();
    /// let x: Tensor<Rank4<2, 3, 32, 32>, f32, _> = dev.sample_normal();
    /// let _: Tensor<Rank4<2, 3, 16, 16>, f32, _> = MaxPool2D::<3, 2, 1>.forward(x);
    /// ```
    MaxPool2D, try_max_pool2d
}

pool! {
    /// The average over windows of `K` by `K` elements, `S` apart, with `P` rows and columns of
    /// zeros at each edge, which count: (B, C, H, W) -> (B, C, H', W'). See [`try_avg_pool2d`].
    AvgPool2D, try_avg_pool2d
}

/// The average of each channel's whole image: (B, C, H, W) -> (B, C). See
/// [`try_global_avg_pool2d`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalAvgPool;

impl ZeroSizedModule for GlobalAvgPool {}
impl NonMutableModule for GlobalAvgPool {}

impl<B: Dim, C: Dim, H: Dim, W: Dim, E: Dtype, D: Backend<E>, T: Tape<E, D>>
    Module<Tensor<(B, C, H, W), E, D, T>> for GlobalAvgPool
{
    type Output = Tensor<(B, C), E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, x: Tensor<(B, C, H, W), E, D, T>) -> Result<Self::Output, D::Err> {
        try_global_avg_pool2d(x).map_err(D::device_error)
    }
}

impl<const K: usize, const S: usize, const P: usize> MaxPool2D<K, S, P> {
    /// Its output between operations of this crate.
    pub(crate) fn apply_hidden<B: Dim, C: Dim, H, W, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
        &self,
        x: Hidden<(B, C, H, W), E, D, T>,
    ) -> Result<Hidden<Pooled<B, C, H, W, K, S, P>, E, D, T>>
    where
        H: ConvDim<K, S, P, 1>,
        W: ConvDim<K, S, P, 1>,
    {
        max_pool2d_hidden(x, Pool2D::<K, S, P>)
    }
}

impl<E: Dtype> ToGraph<E> for GlobalAvgPool {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        graph.push(path, Operation::GlobalAvgPool, Vec::new(), &[x])
    }
}

plain_layer!(
    [const K: usize, const S: usize, const P: usize] MaxPool2D<K, S, P>: |x| pooled::<K, S, P>(x)
);
plain_layer!(
    [const K: usize, const S: usize, const P: usize] AvgPool2D<K, S, P>: |x| pooled::<K, S, P>(x)
);
plain_layer!([] GlobalAvgPool: |x| Ok([x[0], 1, 1]));

fn pooled<const K: usize, const S: usize, const P: usize>(
    [c, h, w]: ImageSize,
) -> Result<ImageSize> {
    let count = |size| {
        window_count(size, K, S, P, 1)
            .ok_or_else(|| Error::shape("pool", "image under the window", K, [h, w]))
    };
    Ok([c, count(h)?, count(w)?])
}
