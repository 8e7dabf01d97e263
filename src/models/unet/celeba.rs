//! The U-Net for CelebA.

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
    /// See [`super::CelebAInputBlocks`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct CelebAInputBlocks<const C: usize>;

    /// See [`super::CelebAOutputBlocks`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct CelebAOutputBlocks;

    /// See [`super::CelebAUNet`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct CelebAUNet<const C: usize = 3>;
}

unet!(
    /// The U-Net for images of C channels like CelebA's at 64x64: 128 channels at full size, 256 at
    /// a half, a quarter and an eighth of it. Of (x, timesteps), (B, C, H, W) and (B), it predicts
    /// (B, C, H, W).
    ///
    /// H and W are multiples of 8. 35,482,627 parameters for C = 3 (the default in the builder).
    CelebAUNet (CelebAInputBlocks, CelebAOutputBlocks) base 128 emb 512 deepest 256
    where [H: sizes::Down<Half: sizes::Down<Half: sizes::Down>>, W: sizes::Down<Half: sizes::Down<Half: sizes::Down>>,]
    in s0 {
        b1 "1" s1: Same 128;
        b2 "2" s2: Same 128;
        b3 "3" s3: Down 128;
        b4 "4" s4: To 128 256;
        b5 "5" s5: Same 256;
        b6 "6" s6: Down 256;
        b7 "7" s7: Same 256;
        b8 "8" s8: Same 256;
        b9 "9" s9: Down 256;
        b10 "10" s10: SameAttention 256;
        b11 "11" s11: SameAttention 256;
    }
    out {
        b0 "0" s11: ToAttention 256 + 256 = 512 -> 256;
        b1 "1" s10: ToAttention 256 + 256 = 512 -> 256;
        b2 "2" s9: Up 256 + 256 = 512 -> 256 to s8;
        b3 "3" s8: To 256 + 256 = 512 -> 256;
        b4 "4" s7: To 256 + 256 = 512 -> 256;
        b5 "5" s6: Up 256 + 256 = 512 -> 256 to s5;
        b6 "6" s5: To 256 + 256 = 512 -> 256;
        b7 "7" s4: To 256 + 256 = 512 -> 256;
        b8 "8" s3: Up 256 + 128 = 384 -> 256 to s2;
        b9 "9" s2: To 256 + 128 = 384 -> 128;
        b10 "10" s1: To 128 + 128 = 256 -> 128;
        b11 "11" s0: To 128 + 128 = 256 -> 128;
    }
);
