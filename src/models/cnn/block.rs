//! One layer of the N-layer CNN.

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
use crate::models::sizes::Same;
use crate::nn::modules::{BatchNorm2D, SparseConv2D};
use crate::ops::batch_norm::Activation::ReLU;

/// The architecture.
pub mod builder {
    /// See [`super::ConvBlock`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ConvBlock<const C_IN: usize, const C_OUT: usize>;
}

network!(
    /// y = relu(bn(conv(x))): (B, C_IN, H, W) to (B, C_OUT, H, W).
    ConvBlock [const C_IN: usize, const C_OUT: usize] {
        /// C_IN to C_OUT, 3x3.
        conv: SparseConv2D<C_IN, C_OUT, 3, 1, 1, 1, 1, E, D>,
        /// C_OUT.
        bn: BatchNorm2D<C_OUT, E, D>,
    }
);

macro_rules! conv_block {
    ($m:tt, $this:ident, $x:ident) => {{
        let y = layer!($m, $this.conv, $x);
        norm!($m, $this.bn, y, None, ReLU)
    }};
}

forward!(
    hidden ConvBlock [const C_IN: usize, const C_OUT: usize], C_IN -> (B, Const<C_OUT>, H, W),
    [H: Same, W: Same,],
    conv_block
);
