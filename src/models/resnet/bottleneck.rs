//! Blocks of a 1x1, a 3x3 and a 1x1 convolution (arXiv 1512.03385, Fig. 5, right).

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
use crate::ops::batch_norm::Activation::{Identity, ReLU};
use crate::shape::ConvDim;

/// The architectures.
pub mod builder {
    /// See [`super::Bottleneck`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Bottleneck<const C: usize, const WIDTH: usize>;

    /// See [`super::ProjectionBottleneck`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ProjectionBottleneck<
        const C_IN: usize,
        const WIDTH: usize,
        const C_OUT: usize,
        const STRIDE: usize = 1,
    >;
}

network!(
    /// y = relu(x + bn3(conv3(relu(bn2(conv2(relu(bn1(conv1(x))))))))), with C channels outside and
    /// WIDTH channels within.
    Bottleneck [const C: usize, const WIDTH: usize] {
        /// C to WIDTH, 1x1.
        conv1: SparseConv2D<C, WIDTH, 1, 1, 0, 1, 1, E, D>,
        /// WIDTH.
        bn1: BatchNorm2D<WIDTH, E, D>,
        /// WIDTH to WIDTH, 3x3.
        conv2: SparseConv2D<WIDTH, WIDTH, 3, 1, 1, 1, 1, E, D>,
        /// WIDTH.
        bn2: BatchNorm2D<WIDTH, E, D>,
        /// WIDTH to C, 1x1.
        conv3: SparseConv2D<WIDTH, C, 1, 1, 0, 1, 1, E, D>,
        /// C.
        bn3: BatchNorm2D<C, E, D>,
    }
);

/// The block beside its shortcut, up to the last norm. Here the tape goes on: with it go the gradients of all parameters,
/// which a merge of tapes would move one by one.
macro_rules! main_path {
    ($m:tt, $this:ident, $x:ident) => {{
        let y = layer!($m, $this.conv1, $x);
        let y = norm!($m, $this.bn1, y, None, ReLU);
        let y = layer!($m, $this.conv2, y);
        let y = norm!($m, $this.bn2, y, None, ReLU);
        layer!($m, $this.conv3, y)
    }};
}

macro_rules! bottleneck {
    ($m:tt, $this:ident, $x:ident) => {{
        let shortcut = $x.with_empty_tape();
        let y = main_path!($m, $this, $x);
        norm!($m, $this.bn3, y, Some(shortcut), ReLU)
    }};
}

forward!(
    hidden Bottleneck [const C: usize, const WIDTH: usize], C -> (B, Const<C>, H, W),
    [H: Same, W: Same,],
    bottleneck
);

network!(
    /// y = relu(shortcut(x) + bn3(conv3(relu(bn2(conv2(relu(bn1(conv1(x))))))))), where the number of
    /// channels or the size of the image changes: conv2, the 3x3 one, and the shortcut's 1x1
    /// projection have the stride.
    ProjectionBottleneck [
        const C_IN: usize, const WIDTH: usize, const C_OUT: usize, const STRIDE: usize
    ] {
        /// C_IN to WIDTH, 1x1.
        conv1: SparseConv2D<C_IN, WIDTH, 1, 1, 0, 1, 1, E, D>,
        /// WIDTH.
        bn1: BatchNorm2D<WIDTH, E, D>,
        /// WIDTH to WIDTH, 3x3, with the stride.
        conv2: SparseConv2D<WIDTH, WIDTH, 3, STRIDE, 1, 1, 1, E, D>,
        /// WIDTH.
        bn2: BatchNorm2D<WIDTH, E, D>,
        /// WIDTH to C_OUT, 1x1.
        conv3: SparseConv2D<WIDTH, C_OUT, 1, 1, 0, 1, 1, E, D>,
        /// C_OUT.
        bn3: BatchNorm2D<C_OUT, E, D>,
        /// C_IN to C_OUT, 1x1, with the stride, and its norm.
        shortcut: (
            SparseConv2D<C_IN, C_OUT, 1, STRIDE, 0, 1, 1, E, D>,
            BatchNorm2D<C_OUT, E, D>,
        ),
    }
    beside shortcut
);

/// The size that the stride leaves of a height or width.
type Strided<S, const STRIDE: usize> = <S as ConvDim<3, STRIDE, 1, 1>>::Out;

macro_rules! projection_bottleneck {
    ($m:tt, $this:ident, $x:ident) => {{
        let shortcut = $x.with_empty_tape();
        let y = main_path!($m, $this, $x);
        let shortcut = layer!($m, $this.shortcut.0, shortcut);
        let shortcut = norm!($m, $this.shortcut.1, shortcut, None, Identity);
        norm!($m, $this.bn3, y, Some(shortcut), ReLU)
    }};
}

forward!(
    hidden ProjectionBottleneck [
        const C_IN: usize, const WIDTH: usize, const C_OUT: usize, const STRIDE: usize
    ],
    C_IN -> (B, Const<C_OUT>, Strided<H, STRIDE>, Strided<W, STRIDE>),
    [
        H: Same + ConvDim<3, STRIDE, 1, 1> + ConvDim<1, STRIDE, 0, 1, Out = Strided<H, STRIDE>>,
        W: Same + ConvDim<3, STRIDE, 1, 1> + ConvDim<1, STRIDE, 0, 1, Out = Strided<W, STRIDE>>,
        Strided<H, STRIDE>: Same,
        Strided<W, STRIDE>: Same,
    ],
    projection_bottleneck
);
