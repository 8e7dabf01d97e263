//! The vision transformer: patches of an image as the tokens of a transformer.

mod block;

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::{Linear, Repeated};
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
    TensorOptions,
};
use dfdx::shapes::{Const, ConstDim, Dim, HasShape};
use dfdx::tensor::{Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;
use rand_distr::{Distribution, Normal};

use super::classify::classify;
use super::forward::Images;
use super::module::field_cost;
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::inference::{Graph, Operation, ToGraph, Value, Weight};
use crate::nn::modules::{BiasedSparseConv2D, LayerNorm, Quotient};
use crate::nn::{join, BackwardCost, ImageSize, LayerCost, LayerMut, VisitLayers};
use crate::ops::conv2d::{conv_hidden, Conv2DOp, Conv2DShape};
use crate::ops::pool::global_avg_pool2d_hidden;
use crate::ops::position_embedding::position_embedding_hidden;

pub use block::ViTBlock;

/// The architectures.
pub mod builder {
    pub use super::block::builder::ViTBlock;

    /// See [`super::ViT`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ViT<
        const CLASSES: usize,
        const C_IN: usize,
        const IMAGE: usize,
        const PATCH: usize,
        const DIM: usize,
        const MLP: usize,
        const HEADS: usize,
        const DEPTH: usize,
    >;
}

/// The compile-time size (IMAGE / PATCH)^2: the patches of a square image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patches<const IMAGE: usize, const PATCH: usize>;

impl<const IMAGE: usize, const PATCH: usize> Dim for Patches<IMAGE, PATCH> {
    fn size(&self) -> usize {
        Self::SIZE
    }
    fn from_size(size: usize) -> Option<Self> {
        (size == Self::SIZE).then_some(Self)
    }
}

impl<const IMAGE: usize, const PATCH: usize> ConstDim for Patches<IMAGE, PATCH> {
    const SIZE: usize = (IMAGE / PATCH) * (IMAGE / PATCH);
}

/// Patches as the positions of images.
type Tokens<B, const IMAGE: usize, const PATCH: usize, const DIM: usize> = (
    B,
    Const<DIM>,
    Quotient<IMAGE, PATCH>,
    Quotient<IMAGE, PATCH>,
);

/// A convolution that cuts images into patches, and embeds each.
type PatchEmbedding<const C_IN: usize, const DIM: usize, const PATCH: usize, E, D> =
    BiasedSparseConv2D<C_IN, DIM, PATCH, PATCH, 0, 1, 1, E, D>;

/// A vision transformer ([Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929)): logits (B, CLASSES) of
/// square images x (B, C_IN, IMAGE, IMAGE), cut into patches of PATCH x PATCH pixels.
///
/// | layer | output |
/// |---|---|
/// | PATCH x PATCH convolution, stride PATCH; a learnt embedding of each position is added | DIM x IMAGE/PATCH x IMAGE/PATCH |
/// | DEPTH [blocks](ViTBlock): attention of HEADS heads, MLP of MLP hidden units with GELU | the same |
/// | mean over the positions, layer norm, linear | CLASSES |
///
/// There is no class token: the classifier sees the positions' mean ([Beyer et al.,
/// 2022](https://arxiv.org/abs/2205.01580)). Every linear layer but the classifier has a sparse backward pass,
/// and so has the patch embedding, which computes no gradient for the image (set
/// `patch_embed.backward.input_gradient` if you need one). Attention itself is dense. PATCH has to divide
/// IMAGE, and HEADS DIM: anything else does not compile.
///
/// Tensors have the names, shapes and orders of timm's `VisionTransformer` with `class_token=False,
/// global_pool="avg"`, whose state dict [`checkpoint::load`](crate::checkpoint::load()) reads.
/// In [`ModelCost`](crate::nn::ModelCost) the linear layers and the patch embedding count, the
/// products inside attention, norms and GELU do not, as in the U-Nets.
///
/// ```
/// use ssprop::prelude::*;
///
/// let dev = Cpu::default();
/// // 28x28 pixels in 7x7 patches, 2 blocks of 32 channels and 4 heads.
/// let mut net = dev.build_module::<ViT<10, 1, 28, 4, 32, 64, 4, 2>, f32>();
/// net.set_drop_rate(DropRate::new(0.8)?);
/// let x: Tensor<Rank4<2, 1, 28, 28>, f32, _> = dev.sample_normal();
/// let logits: Tensor<Rank2<2, 10>, f32, _, _> = net.try_forward_mut(x.trace(net.alloc_grads()))?;
/// let grads = logits.square().mean().backward();
/// # let _ = grads;
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ViT<
    const CLASSES: usize,
    const C_IN: usize,
    const IMAGE: usize,
    const PATCH: usize,
    const DIM: usize,
    const MLP: usize,
    const HEADS: usize,
    const DEPTH: usize,
    E: Dtype,
    D: Storage<E>,
> {
    /// C_IN to DIM, PATCH x PATCH: `patch_embed.proj`.
    pub patch_embed: PatchEmbedding<C_IN, DIM, PATCH, E, D>,
    /// A vector for each position, (1, N, DIM). Normal with a deviation of 0.02 at first.
    pub pos_embed: Tensor<(Const<1>, Patches<IMAGE, PATCH>, Const<DIM>), E, D>,
    /// The blocks.
    pub blocks: Repeated<ViTBlock<DIM, MLP, HEADS, E, D>, DEPTH>,
    /// Of the mean over the positions.
    pub fc_norm: LayerNorm<DIM, E, D>,
    /// DIM to CLASSES.
    pub head: Linear<DIM, CLASSES, E, D>,
}

impl<
        const CLASSES: usize,
        const C_IN: usize,
        const IMAGE: usize,
        const PATCH: usize,
        const DIM: usize,
        const MLP: usize,
        const HEADS: usize,
        const DEPTH: usize,
        E: Dtype,
        D: Device<E>,
    > BuildOnDevice<D, E> for builder::ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH>
where
    ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH, E, D>: BuildModule<D, E>,
{
    type Built = ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH, E, D>;
}

impl<
        const CLASSES: usize,
        const C_IN: usize,
        const IMAGE: usize,
        const PATCH: usize,
        const DIM: usize,
        const MLP: usize,
        const HEADS: usize,
        const DEPTH: usize,
        E: Dtype + num_traits::Float + SampleUniform,
        D: Device<E>,
    > TensorCollection<E, D> for ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH, E, D>
{
    type To<E2: Dtype, D2: Device<E2>> =
        ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        const {
            assert!(
                PATCH > 0 && IMAGE > 0 && IMAGE / PATCH * PATCH == IMAGE,
                "PATCH must divide IMAGE"
            );
        }
        visitor.visit_fields(
            (
                Self::module(
                    "patch_embed.proj",
                    |m| &m.patch_embed,
                    |m| &mut m.patch_embed,
                ),
                Self::tensor(
                    "pos_embed",
                    |m| &m.pos_embed,
                    |m| &mut m.pos_embed,
                    TensorOptions::reset_with(|t| t.try_fill_with_distr(small_normal())),
                ),
                Self::module("blocks", |m| &m.blocks, |m| &mut m.blocks),
                Self::module("fc_norm", |m| &m.fc_norm, |m| &mut m.fc_norm),
                Self::module("head", |m| &m.head, |m| &mut m.head),
            ),
            |(mut patch_embed, pos_embed, blocks, fc_norm, head)| {
                patch_embed.backward.input_gradient = false;
                ViT {
                    patch_embed,
                    pos_embed,
                    blocks,
                    fc_norm,
                    head,
                }
            },
        )
    }
}

impl<
        const CLASSES: usize,
        const C_IN: usize,
        const IMAGE: usize,
        const PATCH: usize,
        const DIM: usize,
        const MLP: usize,
        const HEADS: usize,
        const DEPTH: usize,
        E: Dtype,
        D: Backend<E>,
    > ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH, E, D>
{
    /// The patches of images, each as DIM channels of a position. (The layer itself would ask the compiler for
    /// the sizes that a window of PATCH pixels leaves, of which it knows some only.)
    fn embed<B: Dim, T: Tape<E, D>>(
        &self,
        x: Hidden<(B, Const<C_IN>, Const<IMAGE>, Const<IMAGE>), E, D, T>,
    ) -> Result<Hidden<Tokens<B, IMAGE, PATCH, DIM>, E, D, T>> {
        let op = Conv2DOp {
            kernel: PATCH,
            stride: PATCH,
            padding: 0,
            dilation: 1,
            groups: 1,
        };
        let &(b, ..) = x.shape();
        let layer = &self.patch_embed;
        conv_hidden(
            x,
            &layer.weight,
            Some(&layer.bias),
            Conv2DShape::new(op, [b.size(), C_IN, IMAGE, IMAGE], DIM)?,
            (b, Const, Quotient, Quotient),
            layer.backward,
            layer.kept_count.clone(),
        )
    }
}

/// Normal with a deviation of 0.02.
fn small_normal<E: Dtype>() -> impl Distribution<E> {
    let normal = Normal::new(0.0, 0.02).expect("a finite, positive deviation");
    normal.map(|x: f64| E::from_f64(x).expect("floats convert"))
}

impl<
        const CLASSES: usize,
        const C_IN: usize,
        const IMAGE: usize,
        const PATCH: usize,
        const DIM: usize,
        const MLP: usize,
        const HEADS: usize,
        const DEPTH: usize,
        B: Dim,
        E: Dtype,
        D: Backend<E>,
        T: Tape<E, D>,
    > Module<Images<B, C_IN, Const<IMAGE>, Const<IMAGE>, E, D, T>>
    for ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH, E, D>
{
    type Output = Tensor<(B, Const<CLASSES>), E, D, T>;
    type Error = Error;

    fn try_forward(
        &self,
        x: Images<B, C_IN, Const<IMAGE>, Const<IMAGE>, E, D, T>,
    ) -> Result<Self::Output> {
        let x = self.embed(Hidden::enter(x))?;
        let mut x = position_embedding_hidden(x, &self.pos_embed)?;
        for block in &self.blocks.modules {
            x = block.apply_hidden(x)?;
        }
        let x = self.fc_norm.apply_hidden(global_avg_pool2d_hidden(x)?)?;
        classify(&self.head, x.into_tensor()?)
    }
}

impl<
        const CLASSES: usize,
        const C_IN: usize,
        const IMAGE: usize,
        const PATCH: usize,
        const DIM: usize,
        const MLP: usize,
        const HEADS: usize,
        const DEPTH: usize,
        E: Dtype,
        D: Storage<E>,
    > NonMutableModule for ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH, E, D>
{
}

impl<
        const CLASSES: usize,
        const C_IN: usize,
        const IMAGE: usize,
        const PATCH: usize,
        const DIM: usize,
        const MLP: usize,
        const HEADS: usize,
        const DEPTH: usize,
        E: Dtype,
        D: Storage<E>,
    > VisitLayers for ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH, E, D>
{
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        self.patch_embed
            .visit_layers_at(&join(path, "patch_embed.proj"), f);
        self.blocks.visit_layers_at(&join(path, "blocks"), f);
    }
}

impl<
        const CLASSES: usize,
        const C_IN: usize,
        const IMAGE: usize,
        const PATCH: usize,
        const DIM: usize,
        const MLP: usize,
        const HEADS: usize,
        const DEPTH: usize,
        E: Dtype,
        D: Storage<E>,
    > ToGraph<E> for ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH, E, D>
{
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let at = |name: &str| join(path, name);
        let x = self.patch_embed.add_to(graph, &at("patch_embed.proj"), x)?;
        let embedding = vec![Weight::of(path, "pos_embed", &self.pos_embed)];
        let mut x = graph.push(path, Operation::PositionEmbedding, embedding, &[x])?;
        for (i, block) in self.blocks.modules.iter().enumerate() {
            x = block.add_to(graph, &at(&format!("blocks.{i}")), x)?;
        }
        let x = graph.push(path, Operation::GlobalAvgPool, Vec::new(), &[x])?;
        let x = self.fc_norm.add_to(graph, &at("fc_norm"), x)?;
        self.head.add_to(graph, &at("head"), x)
    }
}

impl<
        const CLASSES: usize,
        const C_IN: usize,
        const IMAGE: usize,
        const PATCH: usize,
        const DIM: usize,
        const MLP: usize,
        const HEADS: usize,
        const DEPTH: usize,
        E: Dtype,
        D: Storage<E>,
    > BackwardCost for ViT<CLASSES, C_IN, IMAGE, PATCH, DIM, MLP, HEADS, DEPTH, E, D>
{
    fn visit_cost(
        path: &str,
        input: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        if input[1..] != [IMAGE; 2] {
            return Err(Error::shape("ViT", "images", [C_IN, IMAGE, IMAGE], input));
        }
        let at = join(path, "patch_embed.proj");
        let tokens = field_cost(|s: &Self| &s.patch_embed, &at, input, f)?;
        field_cost(|s: &Self| &s.blocks, &join(path, "blocks"), tokens, f)?;
        Ok([CLASSES, 1, 1])
    }
}
