//! 8 channels out of the first layer, 16 into the second.
use ssprop::prelude::*;

type Net = (
    SparseConv2D<3, 8, 3, 1, 1>,
    ReLU,
    SparseConv2D<16, 32, 3, 2, 1>,
);

fn main() {
    let dev = Cpu::default();
    let net = dev.build_module::<Net, f32>();
    net.forward(dev.zeros::<Rank4<2, 3, 32, 32>>());
}
