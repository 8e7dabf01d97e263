//! The multi-layer perceptron: no convolution, for the sensitivity analysis of linear layers.

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::{Linear, Repeated};
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
};
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{PutTape, SplitTape, Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;

use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::inference::{Graph, Operation, ToGraph, Value};
use crate::models::classify::classify;
use crate::models::module::network;
use crate::nn::join;
use crate::nn::modules::{Flatten, SparseLinear};
use crate::ops::relu::relu_hidden;

/// The architecture.
pub mod builder {
    /// See [`super::MLP`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct MLP<
        const CLASSES: usize,
        const IN: usize,
        const HIDDEN: usize = 512,
        const MORE: usize = 1,
    >;
}

network!(
    /// A multi-layer perceptron: logits (B, CLASSES) of images x (B, C, H, W) of IN = C H W elements,
    /// which the compiler checks.
    ///
    /// There are 1 + MORE hidden layers of HIDDEN units, each a [`SparseLinear`] and a ReLU (two of
    /// 512 where the builder leaves them out), and a dense classifier, as in the other networks.
    /// The first layer computes no gradient for the image; set `input.backward.input_gradient` if
    /// you need one.
    ///
    /// 669,706 parameters for 784 inputs, 10 classes and two layers of 512.
    ///
    /// ```
    /// use ssprop::prelude::*;
    ///
    /// let dev = Cpu::default();
    /// // 28x28 pixels, three hidden layers of 64.
    /// let mut net = dev.build_module::<MLP<10, 784, 64, 2>, f32>();
    /// net.set_drop_rate(DropRate::new(0.8)?);
    /// let x: Tensor<Rank4<2, 1, 28, 28>, f32, _> = dev.sample_normal();
    /// let logits: Tensor<Rank2<2, 10>, f32, _, _> = net.try_forward_mut(x.trace(net.alloc_grads()))?;
    /// # let _ = logits;
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    MLP [const CLASSES: usize, const IN: usize, const HIDDEN: usize, const MORE: usize] {
        /// IN to HIDDEN.
        input: SparseLinear<IN, HIDDEN, E, D>,
        /// HIDDEN to HIDDEN, MORE times.
        hidden: Repeated<SparseLinear<HIDDEN, HIDDEN, E, D>, MORE>,
        /// HIDDEN to CLASSES.
        linear: Linear<HIDDEN, CLASSES, E, D>,
    }
    first input
);

impl<
        const CLASSES: usize,
        const IN: usize,
        const HIDDEN: usize,
        const MORE: usize,
        const C: usize,
        const H: usize,
        const W: usize,
        B: Dim,
        E: Dtype,
        D: Backend<E>,
        T: Tape<E, D>,
    > Module<Tensor<(B, Const<C>, Const<H>, Const<W>), E, D, T>>
    for MLP<CLASSES, IN, HIDDEN, MORE, E, D>
{
    type Output = Tensor<(B, Const<CLASSES>), E, D, T>;
    type Error = Error;

    fn try_forward(
        &self,
        x: Tensor<(B, Const<C>, Const<H>, Const<W>), E, D, T>,
    ) -> Result<Self::Output> {
        let flat = if self.input.backward.input_gradient {
            Flatten.try_forward(x).map_err(Error::device)?
        } else {
            // Off the tape, which would pass a gradient of zeros back.
            let (x, tape) = x.split_tape();
            Flatten
                .try_forward(x)
                .map_err(Error::device)?
                .put_tape(tape)
        };
        let mut x = relu_hidden(self.input.apply_hidden(Hidden::enter(flat))?)?;
        for layer in &self.hidden.modules {
            x = relu_hidden(layer.apply_hidden(x)?)?;
        }
        let x = x.into_tensor()?;
        classify(&self.linear, x)
    }
}

impl<
        const CLASSES: usize,
        const IN: usize,
        const HIDDEN: usize,
        const MORE: usize,
        E: Dtype,
        D: Storage<E>,
    > NonMutableModule for MLP<CLASSES, IN, HIDDEN, MORE, E, D>
{
}

impl<
        const CLASSES: usize,
        const IN: usize,
        const HIDDEN: usize,
        const MORE: usize,
        E: Dtype,
        D: Storage<E>,
    > ToGraph<E> for MLP<CLASSES, IN, HIDDEN, MORE, E, D>
{
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let x = graph.push(path, Operation::Flatten, Vec::new(), &[x])?;
        let x = self.input.add_to(graph, &join(path, "input"), x)?;
        let mut x = graph.push(path, Operation::ReLU, Vec::new(), &[x])?;
        for (i, layer) in self.hidden.modules.iter().enumerate() {
            x = layer.add_to(graph, &join(path, &format!("hidden.{i}")), x)?;
            x = graph.push(path, Operation::ReLU, Vec::new(), &[x])?;
        }
        self.linear.add_to(graph, &join(path, "linear"), x)
    }
}
