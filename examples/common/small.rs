//! A network that two cores train in minutes.

use dfdx::prelude::BuildOnDevice;
use ssprop::prelude::*;
use ssprop::Backend;

type Block<const C_IN: usize, const C_OUT: usize, POOL> = (
    SparseConv2D<C_IN, C_OUT, 3, 1, 1>,
    BatchNorm2D<C_OUT>,
    ReLU,
    POOL,
);

/// Three convolutions of A, B and B channels on images of 28x28, 14x14 and 7x7.
pub type Convolutions<const A: usize, const B: usize> = (
    Block<1, A, MaxPool2D<2, 2>>,
    Block<A, B, MaxPool2D<2, 2>>,
    Block<B, B, GlobalAvgPool>,
    Linear<B, 10>,
);

/// The one of 16 and 32 channels.
pub type Net = Convolutions<16, 32>;
/// The one of 64 and 128 channels, in which there is more to save.
pub type Wide = Convolutions<64, 128>;

/// The networks with their parameters.
pub type Built = <Net as BuildOnDevice<Cpu, f32>>::Built;
pub type BuiltWide = <Wide as BuildOnDevice<Cpu, f32>>::Built;

/// Builds one of the two.
pub fn build<N, D>(dev: &D) -> N::Built
where
    N: BuildOnDevice<D, f32, Built: VisitLayers>,
    D: Backend<f32>,
{
    without_image_gradient(N::build_on_device(dev))
}

/// The first convolution finds no gradient for the images.
fn without_image_gradient<M: VisitLayers>(mut net: M) -> M {
    let mut first = true;
    net.visit_sparse(&mut |layer| {
        layer.backward.input_gradient = !std::mem::replace(&mut first, false);
    });
    net
}
