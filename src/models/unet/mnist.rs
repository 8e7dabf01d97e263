//! The U-Net for MNIST and Fashion-MNIST.

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::Linear;
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
};
use dfdx::shapes::{Const, Dim, HasShape};
use dfdx::tensor::{PutTape, SplitTape, Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;

use super::network::{concatenated, embed, unet, Down, Same, SameAttention, To, ToAttention, Up};
use super::{Attention, Conv3x3, Norm, ResBlock};
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::models::module::{field_cost, network};
use crate::models::sizes;
use crate::nn::modules::SiLU;
use crate::nn::{join, BackwardCost, ImageSize, LayerCost};
use crate::ops::concat::concat_channels_hidden;
use crate::ops::group_norm::Activation;

/// The architectures.
pub mod builder {
    /// See [`super::MnistInputBlocks`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct MnistInputBlocks<const C: usize>;

    /// See [`super::MnistOutputBlocks`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct MnistOutputBlocks;

    /// See [`super::MnistUNet`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct MnistUNet<const C: usize = 1>;
}

unet!(
    /// The U-Net for images of C channels as small as MNIST's: 16 channels at full size, 32 at a
    /// half, 64 at a quarter of it. Of (x, timesteps), (B, C, H, W) and (B), it predicts
    /// (B, C, H, W).
    ///
    /// H and W are multiples of 4. 972,449 parameters for C = 1 (the default in the builder).
    ///
    /// ```
    /// use ssprop::prelude::*;
    ///
    /// let dev = Cpu::default();
    /// let mut net = dev.build_module::<MnistUNet, f32>();
    /// net.set_drop_rate(DropRate::new(0.8)?);
    /// let x: Tensor<Rank4<2, 1, 32, 32>, f32, _> = dev.sample_normal();
    /// let timesteps = dev.tensor([0.0, 199.0]);
    /// let noise = net.try_forward_mut((x.trace(net.alloc_grads()), timesteps))?;
    /// let grads = noise.square().mean().backward();
    /// # let _ = grads;
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    MnistUNet (MnistInputBlocks, MnistOutputBlocks) base 16 emb 64 deepest 64
    where [H: sizes::Down<Half: sizes::Down>, W: sizes::Down<Half: sizes::Down>,]
    in s0 {
        b1 "1" s1: Same 16;
        b2 "2" s2: Same 16;
        b3 "3" s3: Down 16;
        b4 "4" s4: To 16 32;
        b5 "5" s5: Same 32;
        b6 "6" s6: Down 32;
        b7 "7" s7: ToAttention 32 64;
        b8 "8" s8: SameAttention 64;
    }
    out {
        b0 "0" s8: ToAttention 64 + 64 = 128 -> 64;
        b1 "1" s7: ToAttention 64 + 64 = 128 -> 64;
        b2 "2" s6: Up 64 + 32 = 96 -> 64 to s5;
        b3 "3" s5: To 64 + 32 = 96 -> 32;
        b4 "4" s4: To 32 + 32 = 64 -> 32;
        b5 "5" s3: Up 32 + 16 = 48 -> 32 to s2;
        b6 "6" s2: To 32 + 16 = 48 -> 16;
        b7 "7" s1: To 16 + 16 = 32 -> 16;
        b8 "8" s0: To 16 + 16 = 32 -> 16;
    }
);
