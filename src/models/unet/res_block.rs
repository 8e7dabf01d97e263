//! Residual blocks that are told the timestep.

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::Linear;
use dfdx::nn::{BuildModule, BuildOnDevice, ModuleVisitor, TensorCollection, ZeroSizedModule};
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{PutTape, Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;

use super::{Conv1x1, Conv3x3, Norm};
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::Result;
use crate::models::module::network;
use crate::models::sizes::Same;
use crate::nn::modules::SiLU;
use crate::ops::add::add_hidden;
use crate::ops::group_norm::Activation;
use crate::ops::linear::linear_hidden;
use crate::ops::SparseBackward;

/// The architectures.
pub mod builder {
    /// See [`super::ResBlock`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ResBlock<const C: usize, const EMB: usize>;

    /// See [`super::ProjectionResBlock`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ProjectionResBlock<const C_IN: usize, const C_OUT: usize, const EMB: usize>;
}

/// Holds the place of the dropout in PyTorch's block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoDropout;

impl ZeroSizedModule for NoDropout {}

crate::nn::plain_layer::plain_layer!([] NoDropout);

network!(
    @module
    /// y = x + h with C channels throughout, where
    /// h = conv(silu(norm(conv(silu(norm(x))) + linear(silu(emb))))).
    ResBlock [const C: usize, const EMB: usize] {
        /// Group norm, SiLU, 3x3 convolution.
        in_layers: (Norm<C, E, D>, SiLU, Conv3x3<C, C, E, D>),
        /// SiLU, EMB to C.
        emb_layers: (SiLU, Linear<EMB, C, E, D>),
        /// Group norm, SiLU, nothing, 3x3 convolution.
        out_layers: (Norm<C, E, D>, SiLU, NoDropout, Conv3x3<C, C, E, D>),
    }
);

network!(
    @module
    /// y = skip_connection(x) + h from C_IN to C_OUT channels; h is that of [`ResBlock`].
    ProjectionResBlock [const C_IN: usize, const C_OUT: usize, const EMB: usize] {
        /// Group norm, SiLU, 3x3 convolution.
        in_layers: (Norm<C_IN, E, D>, SiLU, Conv3x3<C_IN, C_OUT, E, D>),
        /// SiLU, EMB to C_OUT.
        emb_layers: (SiLU, Linear<EMB, C_OUT, E, D>),
        /// Group norm, SiLU, nothing, 3x3 convolution.
        out_layers: (Norm<C_OUT, E, D>, SiLU, NoDropout, Conv3x3<C_OUT, C_OUT, E, D>),
        /// 1x1 convolution.
        skip_connection: Conv1x1<C_IN, C_OUT, E, D>,
    }
);

// The embedding's map does not count.
network!(@cost ResBlock [const C: usize, const EMB: usize] [in_layers, out_layers]);
network!(
    @cost ProjectionResBlock [const C_IN: usize, const C_OUT: usize, const EMB: usize]
    [skip_connection, in_layers, out_layers]
    beside skip_connection
);

/// The residual h of x. `emb` has gone through SiLU, which is the same for all blocks.
macro_rules! residual {
    ($this:ident, $x:expr, $emb:expr) => {{
        let (norm, _, conv) = &$this.in_layers;
        let h = norm.apply_hidden($x, None, Activation::SiLU)?;
        let h = conv.apply_hidden(h)?;
        let Linear { weight, bias } = &$this.emb_layers.1;
        // A tape of its own: the caller's holds what led to `emb`.
        let emb = $emb.clone().put_tape(T::default());
        let emb = Hidden::enter(emb);
        let shift = linear_hidden(emb, weight, Some(bias), SparseBackward::default(), None)?;
        let (norm, _, _, conv) = &$this.out_layers;
        let h = norm.apply_hidden(h, Some(shift), Activation::SiLU)?;
        conv.apply_hidden(h)?
    }};
}

impl<const C: usize, const EMB: usize, E: Dtype, D: Backend<E>> ResBlock<C, EMB, E, D> {
    /// x (B, C, H, W), silu(emb) (B, EMB) to (B, C, H, W).
    pub(super) fn apply<B: Dim, H: Same, W: Same, T: Tape<E, D>>(
        &self,
        x: Hidden<(B, Const<C>, H, W), E, D, T>,
        emb: &Tensor<(B, Const<EMB>), E, D>,
    ) -> Result<Hidden<(B, Const<C>, H, W), E, D, T>> {
        let h = residual!(self, x.with_empty_tape(), emb);
        add_hidden(x, h)
    }
}

impl<const C_IN: usize, const C_OUT: usize, const EMB: usize, E: Dtype, D: Backend<E>>
    ProjectionResBlock<C_IN, C_OUT, EMB, E, D>
{
    /// x (B, C_IN, H, W), silu(emb) (B, EMB) to (B, C_OUT, H, W).
    pub(super) fn apply<B: Dim, H: Same, W: Same, T: Tape<E, D>>(
        &self,
        x: Hidden<(B, Const<C_IN>, H, W), E, D, T>,
        emb: &Tensor<(B, Const<EMB>), E, D>,
    ) -> Result<Hidden<(B, Const<C_OUT>, H, W), E, D, T>> {
        let h = residual!(self, x.with_empty_tape(), emb);
        add_hidden(self.skip_connection.apply_hidden(x)?, h)
    }
}
