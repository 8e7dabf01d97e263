//! Residual networks for small images: 3x3 stem, no pooling before the blocks.
//!
//! He et al., *Deep Residual Learning for Image Recognition* (arXiv 1512.03385), Sec. 4.2; the
//! sizes are those of arXiv 2408.12561, Table 4. Tensors have the names of the usual PyTorch
//! implementations for CIFAR (`layer2.0.shortcut.1.running_var`).

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::Linear;
use dfdx::nn::{BuildModule, BuildOnDevice, Module, ModuleMut, ModuleVisitor, TensorCollection};
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{NoneTape, OwnedTape, Storage, Tensor, WithEmptyTape};
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;

use super::module::network;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::nn::modules::{BatchNorm2D, SparseConv2D};
use crate::nn::{join, BackwardCost, ImageSize, LayerCost, SparseLayer, VisitSparse};
use crate::ops::batch_norm::Activation::{Identity, ReLU};
use crate::ops::pool::try_global_avg_pool2d;
use crate::shape::{ConvDim, HalfUp};

/// The architectures.
pub mod builder {
    /// See [`super::BasicBlock`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct BasicBlock<const C: usize>;

    /// See [`super::DownBlock`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct DownBlock<const C_IN: usize, const C_OUT: usize>;

    /// See [`super::ResNet18`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ResNet18<const CLASSES: usize, const C_IN: usize = 3>;
}

/// A height or width that the blocks of a residual network can work on: a 3x3 kernel leaves it as
/// it is, and one of stride 2, 3x3 or 1x1, halves it (rounding up). Any `usize`, and `Const<N>` for
/// N up to 512.
pub trait Down:
    ConvDim<3, 1, 1, 1, Out = Self>
    + ConvDim<3, 2, 1, 1, Out = <Self as Down>::Half>
    + ConvDim<1, 2, 0, 1, Out = <Self as Down>::Half>
{
    /// Half of it, rounded up.
    type Half: ConvDim<3, 1, 1, 1, Out = <Self as Down>::Half>;
}

impl Down for usize {
    type Half = usize;
}

impl<const N: usize, const HALF: usize> Down for Const<N>
where
    Const<N>: HalfUp<Out = Const<HALF>>,
{
    type Half = Const<HALF>;
}

network!(
    /// y = relu(x + bn2(conv2(relu(bn1(conv1(x)))))), with C channels throughout.
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

network!(
    /// ResNet-18 for images of C_IN channels: logits (B, CLASSES) of x (B, C_IN, H, W).
    ///
    /// 11,173,962 parameters for 10 classes and 3 channels. `forward_mut` of a traced tensor trains
    /// (batch statistics), `forward` of one without a tape infers (running statistics). The stem
    /// computes no gradient for its input; set `conv1.backward.input_gradient` if you need one.
    ///
    /// ```
    /// use ssprop::prelude::*;
    ///
    /// let dev = Cpu::default();
    /// let mut net = dev.build_module::<ResNet18<10>, f32>();
    /// net.set_drop_rate(DropRate::new(0.8)?);
    /// let x: Tensor<Rank4<2, 3, 32, 32>, f32, _> = dev.sample_normal();
    /// let logits: Tensor<Rank2<2, 10>, f32, _, _> = net.try_forward_mut(x.trace(net.alloc_grads()))?;
    /// let grads = logits.square().mean().backward();
    /// # let _ = grads;
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    ResNet18 [const CLASSES: usize, const C_IN: usize] {
        /// The stem: C_IN to 64, 3x3.
        conv1: SparseConv2D<C_IN, 64, 3, 1, 1, 1, 1, E, D>,
        /// 64.
        bn1: BatchNorm2D<64, E, D>,
        /// 64 channels, H x W.
        layer1: (BasicBlock<64, E, D>, BasicBlock<64, E, D>),
        /// 128 channels, H/2 x W/2.
        layer2: (DownBlock<64, 128, E, D>, BasicBlock<128, E, D>),
        /// 256 channels, H/4 x W/4.
        layer3: (DownBlock<128, 256, E, D>, BasicBlock<256, E, D>),
        /// 512 channels, H/8 x W/8.
        layer4: (DownBlock<256, 512, E, D>, BasicBlock<512, E, D>),
        /// 512 to CLASSES.
        linear: Linear<512, CLASSES, E, D>,
    }
    first conv1
);

type Images<B, const C: usize, H, W, E, D, T> = Tensor<(B, Const<C>, H, W), E, D, T>;

/// Writes a network's forward twice: `Module` of a tensor without a tape, with the running
/// statistics, and `ModuleMut` of a traced one, with the batch's. The body's `norm!(bn, x, act)`
/// and `norm_add!(bn, x, residual, act)` become the norm's `try_eval` or `try_train`, `next!` a
/// layer's `try_forward` or `try_forward_mut`.
macro_rules! forward {
    (
        $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty, [$($bounds:tt)*],
        |$this:ident, $x:ident, $norm:ident, $norm_add:ident, $next:ident| $body:block
    ) => {
        forward!(
            @one Module try_forward (&) NoneTape, try_eval try_eval_add try_forward;
            $name [$(const $param: usize),*], $c_in -> $out, [$($bounds)*],
            |$this, $x, $norm, $norm_add, $next| $body
        );
        forward!(
            @one ModuleMut try_forward_mut (&mut) OwnedTape<E, D>,
            try_train try_train_add try_forward_mut;
            $name [$(const $param: usize),*], $c_in -> $out, [$($bounds)*],
            |$this, $x, $norm, $norm_add, $next| $body
        );
    };
    (
        @one $module:ident $method:ident ($($by:tt)*) $tape:ty, $bn:ident $bn_add:ident $fwd:ident;
        $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty, [$($bounds:tt)*],
        |$this:ident, $x:ident, $norm:ident, $norm_add:ident, $next:ident| $body:block
    ) => {
        impl<$(const $param: usize,)* B: Dim, H, W, E: Dtype, D: Backend<E>>
            $module<Images<B, $c_in, H, W, E, D, $tape>> for $name<$($param,)* E, D>
        where
            $($bounds)*
        {
            type Output = Tensor<$out, E, D, $tape>;
            type Error = Error;

            fn $method(
                $($by)* self,
                $x: Images<B, $c_in, H, W, E, D, $tape>,
            ) -> Result<Self::Output> {
                #![allow(unused_macros)]
                macro_rules! $norm {
                    ($layer:expr, $x_:expr, $act:expr) => { $layer.$bn($x_, $act)? };
                }
                macro_rules! $norm_add {
                    ($layer:expr, $x_:expr, $res:expr, $act:expr) => {
                        $layer.$bn_add($x_, $res, $act)?
                    };
                }
                macro_rules! $next {
                    ($layer:expr, $x_:expr) => { $layer.$fwd($x_)? };
                }
                let $this = self;
                $body
            }
        }
    };
}

forward!(
    BasicBlock [const C: usize], C -> (B, Const<C>, H, W),
    [H: ConvDim<3, 1, 1, 1, Out = H>, W: ConvDim<3, 1, 1, 1, Out = W>,],
    |this, x, norm, norm_add, next| {
        let y = this.conv1.try_apply(x.with_empty_tape())?;
        let y = norm!(this.bn1, y, ReLU);
        let y = this.conv2.try_apply(y)?;
        Ok(norm_add!(this.bn2, y, x, ReLU))
    }
);

forward!(
    DownBlock [const C_IN: usize, const C_OUT: usize],
    C_IN -> (B, Const<C_OUT>, H::Half, W::Half),
    [H: Down, W: Down,],
    |this, x, norm, norm_add, next| {
        let y = this.conv1.try_apply(x.with_empty_tape())?;
        let y = norm!(this.bn1, y, ReLU);
        let y = this.conv2.try_apply(y)?;
        let shortcut = this.shortcut.0.try_apply(x)?;
        let shortcut = norm!(this.shortcut.1, shortcut, Identity);
        Ok(norm_add!(this.bn2, y, shortcut, ReLU))
    }
);

forward!(
    ResNet18 [const CLASSES: usize, const C_IN: usize], C_IN -> (B, Const<CLASSES>),
    [
        H: Down<Half: Down<Half: Down>>,
        W: Down<Half: Down<Half: Down>>,
    ],
    |this, x, norm, norm_add, next| {
        let x = this.conv1.try_apply(x)?;
        let x = norm!(this.bn1, x, ReLU);
        let x = next!(this.layer1, x);
        let x = next!(this.layer2, x);
        let x = next!(this.layer3, x);
        let x = next!(this.layer4, x);
        let x = try_global_avg_pool2d(x)?;
        this.linear.try_forward(x).map_err(Error::device)
    }
);
