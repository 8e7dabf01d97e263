//! From images to features.

use dfdx::dtypes::Dtype;
use dfdx::nn::{Module, NonMutableModule, ZeroSizedModule};
use dfdx::shapes::{Const, Dim, HasShape, Shape};
use dfdx::tensor::{PutTape, SplitTape, Tape, Tensor};
use dfdx::tensor_ops::ReshapeTo;

use super::plain_layer::plain_layer;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::inference::{Graph, Operation, ToGraph, Value};

/// (B, C, H, W) to (B, N), where N = C H W, which the compiler checks. (dfdx's own `Flatten2D`
/// needs a nightly compiler.)
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::nn::builders::Flatten;
///
/// let dev = Cpu::default();
/// let x: Tensor<Rank4<5, 3, 4, 4>, f32, _> = dev.sample_normal();
/// let _: Tensor<Rank2<5, 48>, f32, _> = Flatten::<48>.forward(x);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flatten<const N: usize>;

impl<const N: usize> ZeroSizedModule for Flatten<N> {}
impl<const N: usize> NonMutableModule for Flatten<N> {}

impl<
        const N: usize,
        const C: usize,
        const H: usize,
        const W: usize,
        B: Dim,
        E: Dtype,
        D: Backend<E>,
        T: Tape<E, D>,
    > Module<Tensor<(B, Const<C>, Const<H>, Const<W>), E, D, T>> for Flatten<N>
{
    type Output = Tensor<(B, Const<N>), E, D, T>;
    type Error = D::Err;

    fn try_forward(
        &self,
        x: Tensor<(B, Const<C>, Const<H>, Const<W>), E, D, T>,
    ) -> Result<Self::Output, D::Err> {
        const {
            assert!(
                C * H * W == N,
                "the features are the image's elements: N = C H W"
            )
        }
        let shape = (x.shape().0, Const);
        if shape.num_elements() > 0 {
            return x.try_reshape_like(&shape);
        }
        // dfdx's copy looks at the first element.
        let y = x.device().try_zeros_like(&shape)?;
        let (x, mut tape) = x.split_tape();
        let ghost = x.ghost();
        tape.add_backward_op(move |grads| grads.get_or_alloc_mut(&ghost).map(drop));
        Ok(y.put_tape(tape))
    }
}

plain_layer!([const N: usize] Flatten<N>: |input| {
    let [c, h, w] = input;
    match c.checked_mul(h).and_then(|n| n.checked_mul(w)) == Some(N) {
        true => Ok([N, 1, 1]),
        false => Err(Error::shape("flatten", "elements of an image", N, input)),
    }
});

impl<const N: usize, E: Dtype> ToGraph<E> for Flatten<N> {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        graph.push(path, Operation::Flatten, Vec::new(), &[x])
    }
}
