//! A transformer's block.

use dfdx::dtypes::Dtype;
use dfdx::nn::{BuildModule, BuildOnDevice, ModuleVisitor, TensorCollection};
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{Storage, Tape};
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;

use crate::backend::Backend;
use crate::error::Result;
use crate::inference::{Graph, Operation, ToGraph, Value};
use crate::models::forward::HiddenImages;
use crate::models::module::network;
use crate::nn::join;
use crate::nn::modules::{LayerNorm, SparsePositionwiseLinear};
use crate::ops::add::add_hidden;
use crate::ops::attention::{attention_hidden, Heads, QkvOrder, Triple};
use crate::ops::gelu::gelu_hidden;

/// The architecture.
pub mod builder {
    /// See [`super::ViTBlock`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ViTBlock<const DIM: usize, const MLP: usize, const HEADS: usize>;
}

network!(
    /// A pre-norm block of a vision transformer, for tokens that are the positions of images
    /// (B, DIM, H, W): z = x + proj(attention(qkv(norm1(x)))), y = z + fc2(gelu(fc1(norm2(z)))).
    ///
    /// HEADS has to divide DIM.
    ViTBlock [const DIM: usize, const MLP: usize, const HEADS: usize] {
        /// Before the attention.
        norm1: LayerNorm<DIM, E, D>,
        /// DIM to 3 DIM: the queries of all heads, their keys, their values.
        qkv = "attn.qkv": SparsePositionwiseLinear<Const<DIM>, Triple<DIM>, E, D>,
        /// DIM to DIM.
        proj = "attn.proj": SparsePositionwiseLinear<Const<DIM>, Const<DIM>, E, D>,
        /// Before the MLP.
        norm2: LayerNorm<DIM, E, D>,
        /// DIM to MLP.
        fc1 = "mlp.fc1": SparsePositionwiseLinear<Const<DIM>, Const<MLP>, E, D>,
        /// MLP to DIM.
        fc2 = "mlp.fc2": SparsePositionwiseLinear<Const<MLP>, Const<DIM>, E, D>,
    }
    // As to the sizes: attention makes DIM channels of its 3 DIM.
    beside qkv
);

impl<const DIM: usize, const MLP: usize, const HEADS: usize, E: Dtype, D: Backend<E>>
    ViTBlock<DIM, MLP, HEADS, E, D>
{
    pub(super) fn apply_hidden<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &self,
        x: HiddenImages<B, DIM, H, W, E, D, T>,
    ) -> Result<HiddenImages<B, DIM, H, W, E, D, T>> {
        let shortcut = x.with_empty_tape();
        let y = self.qkv.apply_hidden(self.norm1.apply_hidden(x)?)?;
        let order = QkvOrder::ByKind { heads: HEADS };
        let y = attention_hidden(y, Heads::<HEADS>, order)?;
        let x = add_hidden(self.proj.apply_hidden(y)?, shortcut)?;

        let shortcut = x.with_empty_tape();
        let y = self.fc1.apply_hidden(self.norm2.apply_hidden(x)?)?;
        let y = self.fc2.apply_hidden(gelu_hidden(y)?)?;
        add_hidden(y, shortcut)
    }
}

impl<const DIM: usize, const MLP: usize, const HEADS: usize, E: Dtype, D: Storage<E>> ToGraph<E>
    for ViTBlock<DIM, MLP, HEADS, E, D>
{
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let at = |name: &str| join(path, name);
        let y = self.norm1.add_to(graph, &at("norm1"), x)?;
        let y = self.qkv.add_to(graph, &at("attn.qkv"), y)?;
        let attention = Operation::Attention { heads: HEADS };
        let y = graph.push(&at("attn"), attention, Vec::new(), &[y])?;
        let y = self.proj.add_to(graph, &at("attn.proj"), y)?;
        let x = graph.push(path, Operation::Add, Vec::new(), &[y, x])?;
        let y = self.norm2.add_to(graph, &at("norm2"), x)?;
        let y = self.fc1.add_to(graph, &at("mlp.fc1"), y)?;
        let y = graph.push(&at("mlp"), Operation::GELU, Vec::new(), &[y])?;
        let y = self.fc2.add_to(graph, &at("mlp.fc2"), y)?;
        graph.push(path, Operation::Add, Vec::new(), &[y, x])
    }
}
