//! Half and twice the image.

use dfdx::dtypes::Dtype;
use dfdx::nn::{BuildModule, BuildOnDevice, ModuleVisitor, TensorCollection};
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{Storage, Tape};
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;

use super::Conv3x3;
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::Result;
use crate::models::module::network;
use crate::models::sizes::{Down, Same};
use crate::nn::modules::BiasedSparseConv2D;
use crate::nn::{join, BackwardCost, ImageSize, LayerCost};
use crate::ops::upsample::upsample_nearest2d_hidden;

/// The architectures.
pub mod builder {
    /// See [`super::Downsample`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Downsample<const C: usize>;

    /// See [`super::Upsample`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Upsample<const C: usize>;
}

network!(
    /// A 3x3 convolution of stride 2.
    Downsample [const C: usize] {
        /// C to C, 3x3, stride 2.
        op: BiasedSparseConv2D<C, C, 3, 2, 1, 1, 1, E, D>,
    }
);

network!(
    @module
    /// Each pixel becomes four; then a 3x3 convolution.
    Upsample [const C: usize] {
        /// C to C, 3x3.
        conv: Conv3x3<C, C, E, D>,
    }
);

impl<const C: usize, E: Dtype, D: Backend<E>> Downsample<C, E, D> {
    /// x (B, C, H, W) to (B, C, H/2, W/2).
    pub(super) fn apply<B: Dim, H: Down, W: Down, T: Tape<E, D>>(
        &self,
        x: Hidden<(B, Const<C>, H, W), E, D, T>,
    ) -> Result<Hidden<(B, Const<C>, H::Half, W::Half), E, D, T>> {
        self.op.apply_hidden(x)
    }
}

impl<const C: usize, E: Dtype, D: Backend<E>> Upsample<C, E, D> {
    /// x (B, C, H/2, W/2) to (B, C, H, W), of the size `to`.
    pub(super) fn apply<B: Dim, H2: Dim, W2: Dim, H: Same, W: Same, T: Tape<E, D>>(
        &self,
        x: Hidden<(B, Const<C>, H2, W2), E, D, T>,
        to: (H, W),
    ) -> Result<Hidden<(B, Const<C>, H, W), E, D, T>> {
        self.conv.apply_hidden(upsample_nearest2d_hidden(x, to)?)
    }
}

impl<const C: usize, E: Dtype, D: Storage<E>> BackwardCost for Upsample<C, E, D> {
    fn visit_cost(
        path: &str,
        [c, h, w]: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        let doubled = [c, h.saturating_mul(2), w.saturating_mul(2)];
        Conv3x3::<C, C, E, D>::visit_cost(&join(path, "conv"), doubled, f)
    }
}
