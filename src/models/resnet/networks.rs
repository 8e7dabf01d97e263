//! The networks: stem, four stages of blocks, classifier.

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::Linear;
use dfdx::nn::{BuildModule, BuildOnDevice, Module, ModuleMut, ModuleVisitor, TensorCollection};
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{NoneTape, OwnedTape, Storage, Tensor};
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;

use super::basic::{BasicBlock, DownBlock};
use super::bottleneck::{Bottleneck, ProjectionBottleneck};
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::models::forward::{forward, head, layer, next, norm, Images};
use crate::models::module::network;
use crate::models::sizes::Down;
use crate::nn::modules::{BatchNorm2D, SparseConv2D};
use crate::ops::batch_norm::Activation::ReLU;

/// The architectures.
pub mod builder {
    /// See [`super::ResNet18`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ResNet18<const CLASSES: usize, const C_IN: usize = 3>;

    /// See [`super::ResNet26`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ResNet26<const CLASSES: usize, const C_IN: usize = 3>;

    /// See [`super::ResNet34`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ResNet34<const CLASSES: usize, const C_IN: usize = 3>;

    /// See [`super::ResNet50`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ResNet50<const CLASSES: usize, const C_IN: usize = 3>;
}

macro_rules! stem_stages_head {
    ($m:tt, $this:ident, $x:ident) => {{
        let x = layer!($m, $this.conv1, $x);
        let x = norm!($m, $this.bn1, x, None, ReLU);
        let x = next!($m, $this.layer1, x);
        let x = next!($m, $this.layer2, x);
        let x = next!($m, $this.layer3, x);
        let x = next!($m, $this.layer4, x);
        head!($m, $this.linear, x)
    }};
}

/// Declares a network by the channels that its stages put out and their blocks, with its forward.
macro_rules! resnet {
    (
        $(#[$doc:meta])*
        $name:ident
        $c1:literal $layer1:ty,
        $c2:literal $layer2:ty,
        $c3:literal $layer3:ty,
        $c4:literal $layer4:ty,
    ) => {
        network!(
            $(#[$doc])*
            ///
            /// `forward_mut` of a traced tensor trains (batch statistics), `forward` of one without
            /// a tape infers (running statistics). The stem computes no gradient for its input; set
            /// `conv1.backward.input_gradient` if you need one.
            $name [const CLASSES: usize, const C_IN: usize] {
                /// The stem: C_IN to 64, 3x3.
                conv1: SparseConv2D<C_IN, 64, 3, 1, 1, 1, 1, E, D>,
                /// 64.
                bn1: BatchNorm2D<64, E, D>,
                #[doc = concat!(stringify!($c1), " channels, H x W.")]
                layer1: $layer1,
                #[doc = concat!(stringify!($c2), " channels, H/2 x W/2.")]
                layer2: $layer2,
                #[doc = concat!(stringify!($c3), " channels, H/4 x W/4.")]
                layer3: $layer3,
                #[doc = concat!(stringify!($c4), " channels, H/8 x W/8.")]
                layer4: $layer4,
                #[doc = concat!(stringify!($c4), " to CLASSES.")]
                linear: Linear<$c4, CLASSES, E, D>,
            }
            first conv1
        );

        forward!(
            tensor $name [const CLASSES: usize, const C_IN: usize], C_IN -> (B, Const<CLASSES>),
            [
                H: Down<Half: Down<Half: Down>>,
                W: Down<Half: Down<Half: Down>>,
            ],
            stem_stages_head
        );
    };
}

resnet!(
    /// ResNet-18 for images of C_IN channels: logits (B, CLASSES) of x (B, C_IN, H, W).
    ///
    /// 11,173,962 parameters for 10 classes and 3 channels.
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
    ResNet18
    64 (BasicBlock<64, E, D>, BasicBlock<64, E, D>),
    128 (DownBlock<64, 128, E, D>, BasicBlock<128, E, D>),
    256 (DownBlock<128, 256, E, D>, BasicBlock<256, E, D>),
    512 (DownBlock<256, 512, E, D>, BasicBlock<512, E, D>),
);

resnet!(
    /// ResNet-26 for images of C_IN channels: logits (B, CLASSES) of x (B, C_IN, H, W).
    ///
    /// 15,011,402 parameters for 10 classes and 3 channels. Its dense backward pass costs about what
    /// ResNet-50's does on the paper's schedule (arXiv 2408.12561, Tables 7 and 4).
    ResNet26
    64 (BasicBlock<64, E, D>, BasicBlock<64, E, D>),
    128 (DownBlock<64, 128, E, D>, BasicBlock<128, E, D>, BasicBlock<128, E, D>),
    256 (
        DownBlock<128, 256, E, D>, BasicBlock<256, E, D>, BasicBlock<256, E, D>,
        BasicBlock<256, E, D>, BasicBlock<256, E, D>,
    ),
    512 (DownBlock<256, 512, E, D>, BasicBlock<512, E, D>),
);

resnet!(
    /// ResNet-34 for images of C_IN channels: logits (B, CLASSES) of x (B, C_IN, H, W).
    ///
    /// 21,282,122 parameters for 10 classes and 3 channels.
    ResNet34
    64 (BasicBlock<64, E, D>, BasicBlock<64, E, D>, BasicBlock<64, E, D>),
    128 (
        DownBlock<64, 128, E, D>, BasicBlock<128, E, D>, BasicBlock<128, E, D>,
        BasicBlock<128, E, D>,
    ),
    256 (
        DownBlock<128, 256, E, D>, BasicBlock<256, E, D>, BasicBlock<256, E, D>,
        BasicBlock<256, E, D>, BasicBlock<256, E, D>, BasicBlock<256, E, D>,
    ),
    512 (DownBlock<256, 512, E, D>, BasicBlock<512, E, D>, BasicBlock<512, E, D>),
);

resnet!(
    /// ResNet-50 for images of C_IN channels: logits (B, CLASSES) of x (B, C_IN, H, W).
    ///
    /// 23,520,842 parameters for 10 classes and 3 channels.
    ///
    /// ```
    /// use ssprop::prelude::*;
    ///
    /// let dev = Cpu::default();
    /// let net = dev.build_module::<ResNet50<100>, f32>();
    /// let x: Tensor<Rank4<1, 3, 16, 16>, f32, _> = dev.sample_normal();
    /// let _: Tensor<Rank2<1, 100>, f32, _> = net.try_forward(x)?;
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    ResNet50
    256 (
        ProjectionBottleneck<64, 64, 256, 1, E, D>,
        Bottleneck<256, 64, E, D>, Bottleneck<256, 64, E, D>,
    ),
    512 (
        ProjectionBottleneck<256, 128, 512, 2, E, D>,
        Bottleneck<512, 128, E, D>, Bottleneck<512, 128, E, D>, Bottleneck<512, 128, E, D>,
    ),
    1024 (
        ProjectionBottleneck<512, 256, 1024, 2, E, D>,
        Bottleneck<1024, 256, E, D>, Bottleneck<1024, 256, E, D>, Bottleneck<1024, 256, E, D>,
        Bottleneck<1024, 256, E, D>, Bottleneck<1024, 256, E, D>,
    ),
    2048 (
        ProjectionBottleneck<1024, 512, 2048, 2, E, D>,
        Bottleneck<2048, 512, E, D>, Bottleneck<2048, 512, E, D>,
    ),
);
