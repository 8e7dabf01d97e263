//! A network that two cores train in minutes.

use dfdx::prelude::BuildOnDevice;
use ssprop::prelude::*;

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

pub fn build(dev: &Cpu) -> Built {
    without_image_gradient(dev.build_module::<Net, f32>())
}

pub fn build_wide(dev: &Cpu) -> BuiltWide {
    without_image_gradient(dev.build_module::<Wide, f32>())
}

/// The first convolution finds no gradient for the images.
fn without_image_gradient<M: VisitSparse>(mut net: M) -> M {
    let mut first = true;
    net.visit_sparse(&mut |layer| {
        layer.backward.input_gradient = !std::mem::replace(&mut first, false);
    });
    net
}
