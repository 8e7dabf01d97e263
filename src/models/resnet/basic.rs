//! Blocks of two 3x3 convolutions (arXiv 1512.03385, Fig. 5, left).

use dfdx::dtypes::Dtype;
use dfdx::nn::{BuildModule, BuildOnDevice, Module, ModuleMut, ModuleVisitor, TensorCollection};
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{NoneTape, OwnedTape, Storage, Tensor};
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;

use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::models::forward::{forward, layer, norm, HiddenImages, Images};
use crate::models::module::network;
use crate::models::sizes::{Down, Same};
use crate::nn::modules::{BatchNorm2D, SparseConv2D};
use crate::ops::batch_norm::Activation::{Identity, ReLU};

/// The architectures.
pub mod builder {
    /// See [`super::BasicBlock`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct BasicBlock<const C: usize>;

    /// See [`super::DownBlock`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct DownBlock<const C_IN: usize, const C_OUT: usize>;
}

network!(
    /// y = relu(x + bn2(conv2(relu(bn1(conv1(x)))))), with C channels throughout.
    ///
    /// Blocks and layers make networks of other sizes:
    ///
    /// ```
    /// use ssprop::models::builders::{BasicBlock, DownBlock};
    /// use ssprop::prelude::*;
    ///
    /// type Net = (
    ///     SparseConv2D<1, 16, 3, 1, 1>,
    ///     (BatchNorm2D<16>, ReLU),
    ///     BasicBlock<16>,
    ///     DownBlock<16, 32>, // half the rows and columns
    ///     GlobalAvgPool,
    ///     Linear<32, 10>,
    /// );
    ///
    /// let dev = Cpu::default();
    /// let mut net = dev.build_module::<Net, f32>();
    /// let images: Tensor<Rank4<2, 1, 28, 28>, f32, _> = dev.sample_normal();
    /// let logits = net.forward_mut(images.trace(net.alloc_grads()));
    /// let _: &Rank2<2, 10> = logits.shape();
    /// ```
    BasicBlock [const C: usize] {
        /// C to C, 3x3.
        conv1: SparseConv2D<C, C, 3, 1, 1, 1, 1, E, D>,
        /// C.
        bn1: BatchNorm2D<C, E, D>,
        /// C to C, 3x3.
        conv2: SparseConv2D<C, C, 3, 1, 1, 1, 1, E, D>,
        /// C.
        bn2: BatchNorm2D<C, E, D>,
    }
);

/// The block beside its shortcut, up to the last norm. Here the tape goes on: with it go the gradients of all parameters,
/// which a merge of tapes would move one by one.
macro_rules! main_path {
    ($m:tt, $this:ident, $x:ident) => {{
        let y = layer!($m, $this.conv1, $x);
        let y = norm!($m, $this.bn1, y, None, ReLU);
        layer!($m, $this.conv2, y)
    }};
}

macro_rules! basic_block {
    ($m:tt, $this:ident, $x:ident) => {{
        let shortcut = $x.with_empty_tape();
        let y = main_path!($m, $this, $x);
        norm!($m, $this.bn2, y, Some(shortcut), ReLU)
    }};
}

forward!(
    hidden BasicBlock [const C: usize], C -> (B, Const<C>, H, W),
    [H: Same, W: Same,],
    basic_block
);

network!(
    /// y = relu(shortcut(x) + bn2(conv2(relu(bn1(conv1(x)))))), halving the image: conv1 and the
    /// shortcut's 1x1 convolution have stride 2.
    DownBlock [const C_IN: usize, const C_OUT: usize] {
        /// C_IN to C_OUT, 3x3, stride 2.
        conv1: SparseConv2D<C_IN, C_OUT, 3, 2, 1, 1, 1, E, D>,
        /// C_OUT.
        bn1: BatchNorm2D<C_OUT, E, D>,
        /// C_OUT to C_OUT, 3x3.
        conv2: SparseConv2D<C_OUT, C_OUT, 3, 1, 1, 1, 1, E, D>,
        /// C_OUT.
        bn2: BatchNorm2D<C_OUT, E, D>,
        /// C_IN to C_OUT, 1x1, stride 2, and its norm.
        shortcut: (
            SparseConv2D<C_IN, C_OUT, 1, 2, 0, 1, 1, E, D>,
            BatchNorm2D<C_OUT, E, D>,
        ),
    }
    beside shortcut
);

macro_rules! down_block {
    ($m:tt, $this:ident, $x:ident) => {{
        let shortcut = $x.with_empty_tape();
        let y = main_path!($m, $this, $x);
        let shortcut = layer!($m, $this.shortcut.0, shortcut);
        let shortcut = norm!($m, $this.shortcut.1, shortcut, None, Identity);
        norm!($m, $this.bn2, y, Some(shortcut), ReLU)
    }};
}

forward!(
    hidden DownBlock [const C_IN: usize, const C_OUT: usize],
    C_IN -> (B, Const<C_OUT>, H::Half, W::Half),
    [H: Down, W: Down,],
    down_block
);
