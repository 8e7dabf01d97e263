//! A network that two cores train in minutes.

use dfdx::prelude::BuildOnDevice;
use ssprop::prelude::*;

type Block<const C_IN: usize, const C_OUT: usize, POOL> = (
    SparseConv2D<C_IN, C_OUT, 3, 1, 1>,
    BatchNorm2D<C_OUT>,
    ReLU,
    POOL,
);

/// Three convolutions of 16, 32 and 32 channels on images of 28x28, 14x14 and 7x7.
pub type Net = (
    Block<1, 16, MaxPool2D<2, 2>>,
    Block<16, 32, MaxPool2D<2, 2>>,
    Block<32, 32, GlobalAvgPool>,
    Linear<32, 10>,
);

/// The network with its parameters.
pub type Built = <Net as BuildOnDevice<Cpu, f32>>::Built;

/// Makes it; the first convolution finds no gradient for the images.
pub fn build(dev: &Cpu) -> Built {
    let mut net = dev.build_module::<Net, f32>();
    let mut first = true;
    net.visit_sparse(&mut |layer| {
        layer.backward.input_gradient = !std::mem::replace(&mut first, false);
    });
    net
}
