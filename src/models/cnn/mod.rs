//! The N-layer CNN: a plain chain of 3x3 convolutions with 128 channels (arXiv 2408.12561, Fig. 4).
//!
//! The paper gives the depths (2 to 11) and the channels; the 2x2 max pools after the first and the
//! second layer are ours, so that the depth does not change the size of the deeper layers' images.

mod block;
mod conv_tail;

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::Linear;
use dfdx::nn::{BuildModule, BuildOnDevice, Module, ModuleMut, ModuleVisitor, TensorCollection};
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{NoneTape, OwnedTape, Storage, Tensor};
use dfdx::tensor_ops::Device;
use rand_distr::uniform::SampleUniform;

use super::forward::{forward, head, layer, next, Images};
use super::module::network;
use super::sizes::Halves;
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::nn::modules::MaxPool2D;
use crate::ops::pool::global_avg_pool2d_hidden;

pub use block::ConvBlock;
pub use conv_tail::ConvTail;

/// Channels of every convolution's output.
const WIDTH: usize = 128;

/// The architectures.
pub mod builder {
    pub use super::block::builder::ConvBlock;

    /// See [`super::Cnn`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Cnn<const LAYERS: usize, const CLASSES: usize, const C_IN: usize = 3>;
}

network!(
    /// A CNN of LAYERS convolutions: logits (B, CLASSES) of x (B, C_IN, H, W).
    ///
    /// | layer | output |
    /// |---|---|
    /// | 3x3 convolution, batch norm, ReLU, 2x2 max pool | 128 x H/2 x W/2 |
    /// | 3x3 convolution, batch norm, ReLU, 2x2 max pool | 128 x H/4 x W/4 |
    /// | LAYERS - 2 times 3x3 convolution, batch norm, ReLU | 128 x H/4 x W/4 |
    /// | global average pool, linear | CLASSES |
    ///
    /// LAYERS is at least 2 (fewer do not compile), H and W at least 4; halves round down. It has
    /// 1152 C_IN + 147,456 (LAYERS - 1) + 256 LAYERS + 129 CLASSES parameters.
    ///
    /// `forward_mut` of a traced tensor trains (batch statistics), `forward` of one without a tape
    /// infers (running statistics). The first layer computes no gradient for its input.
    ///
    /// ```
    /// use ssprop::prelude::*;
    ///
    /// let dev = Cpu::default();
    /// let mut net = dev.build_module::<Cnn<5, 10, 1>, f32>();
    /// net.set_drop_rate(DropRate::new(0.8)?);
    /// let x: Tensor<Rank4<2, 1, 28, 28>, f32, _> = dev.sample_normal();
    /// let logits = net.try_forward_mut(x.trace(net.alloc_grads()))?;
    /// let _: &Rank2<2, 10> = logits.shape();
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    Cnn [const LAYERS: usize, const CLASSES: usize, const C_IN: usize] {
        /// C_IN to 128.
        layer1: ConvBlock<C_IN, WIDTH, E, D>,
        /// Halves the image.
        pool1: MaxPool2D<2, 2>,
        /// 128 to 128.
        layer2: ConvBlock<WIDTH, WIDTH, E, D>,
        /// Halves the image.
        pool2: MaxPool2D<2, 2>,
        /// 128 to 128, LAYERS - 2 times.
        rest: ConvTail<LAYERS, E, D>,
        /// 128 to CLASSES.
        linear: Linear<WIDTH, CLASSES, E, D>,
    }
    first layer1.conv
);

/// The images of which the linear layer gets the average.
macro_rules! convolve {
    ($m:tt, $this:ident, $x:ident) => {{
        let x = next!($m, $this.layer1, $x);
        let x = layer!($m, $this.pool1, x);
        let x = next!($m, $this.layer2, x);
        let x = layer!($m, $this.pool2, x);
        next!($m, $this.rest, x)
    }};
}

macro_rules! cnn {
    ($m:tt, $this:ident, $x:ident) => {
        head!($m, $this.linear, convolve!($m, $this, $x))
    };
}

forward!(
    tensor Cnn [const LAYERS: usize, const CLASSES: usize, const C_IN: usize],
    C_IN -> (B, Const<CLASSES>),
    [
        H: Halves<Half: Halves>,
        W: Halves<Half: Halves>,
    ],
    cnn
);

impl<const LAYERS: usize, const CLASSES: usize, const C_IN: usize, E: Dtype, D: Backend<E>>
    Cnn<LAYERS, CLASSES, C_IN, E, D>
{
    /// The number of [`features`](Self::features) of an image.
    pub const FEATURES: usize = WIDTH;

    /// The features (B, 128) of x (B, C_IN, H, W) that the linear layer tells the classes apart by:
    /// the last layer's channels, averaged over the image, in evaluation mode.
    ///
    /// ```
    /// use ssprop::prelude::*;
    ///
    /// let dev = Cpu::default();
    /// let net = dev.build_module::<Cnn<4, 10, 1>, f32>();
    /// let x: Tensor<Rank4<2, 1, 32, 32>, f32, _> = dev.sample_normal();
    /// let features = net.features(x.clone())?;
    /// let _: &Rank2<2, 128> = features.shape();
    /// assert_eq!(net.linear.forward(features).array(), net.forward(x).array());
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    ///
    /// # Errors
    /// As those of `try_forward`: [`Error::Shape`] for images of which nothing is left,
    /// [`Error::Device`].
    pub fn features<B: Dim, H, W>(
        &self,
        x: Images<B, C_IN, H, W, E, D, NoneTape>,
    ) -> Result<Tensor<(B, Const<WIDTH>), E, D>>
    where
        H: Halves<Half: Halves>,
        W: Halves<Half: Halves>,
    {
        let x = Hidden::enter(x);
        let x = convolve!(eval, self, x);
        global_avg_pool2d_hidden(x)?.into_tensor()
    }
}
