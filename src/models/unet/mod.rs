//! The U-Nets that predict the noise in denoising diffusion (arXiv 2006.11239).
//!
//! The networks of arXiv 2408.12561, Table 5, with the tensors' names and the layers' order of the
//! usual PyTorch implementation (arXiv 2105.05233): two residual blocks a level going down and three
//! coming up, each of which takes one of the outputs of the way down beside its input; self-attention
//! with 8 heads in the deepest level and between the ways; group norms of 16 groups. Coming up, the
//! third block of the deepest level has no attention, but the upsampling in its place. All 2-d
//! convolutions are sparse in the backward pass and have a bias; attention's 1-d ones are dense.

mod celeba;
mod class_conditional;
mod mnist;
mod network;
mod res_block;
mod resample;

pub use celeba::{CelebAInputBlocks, CelebAOutputBlocks, CelebAUNet};
pub use class_conditional::ClassConditional;
pub use mnist::{MnistInputBlocks, MnistOutputBlocks, MnistUNet};
pub use res_block::{NoDropout, ProjectionResBlock, ResBlock};
pub use resample::{Downsample, Upsample};

use crate::nn::modules::{AttentionBlock, BiasedSparseConv2D, GroupNorm};

/// Groups of every group norm.
const GROUPS: usize = 16;

/// Heads of every attention block.
const HEADS: usize = 8;

type Norm<const C: usize, E, D> = GroupNorm<GROUPS, C, E, D>;
type Attention<const C: usize, E, D> = AttentionBlock<HEADS, GROUPS, C, E, D>;
type Conv3x3<const C_IN: usize, const C_OUT: usize, E, D> =
    BiasedSparseConv2D<C_IN, C_OUT, 3, 1, 1, 1, 1, E, D>;
type Conv1x1<const C_IN: usize, const C_OUT: usize, E, D> =
    BiasedSparseConv2D<C_IN, C_OUT, 1, 1, 0, 1, 1, E, D>;

/// The architectures.
pub mod builder {
    pub use super::celeba::builder::{CelebAInputBlocks, CelebAOutputBlocks, CelebAUNet};
    pub use super::class_conditional::builder::ClassConditional;
    pub use super::mnist::builder::{MnistInputBlocks, MnistOutputBlocks, MnistUNet};
    pub use super::res_block::builder::{ProjectionResBlock, ResBlock};
    pub use super::resample::builder::{Downsample, Upsample};
}
