//! The control: the other programs differ from this one in a number or two.
use ssprop::prelude::*;

type Net = (
    SparseConv2D<3, 8, 3, 1, 1>,
    ReLU,
    SparseConv2D<8, 32, 3, 2, 1, 1, 2>,
);

fn main() {
    let dev = Cpu::default();
    let net = dev.build_module::<Net, f32>();
    let _: Tensor<Rank4<2, 32, 16, 16>, f32, _> = net.forward(dev.zeros::<Rank4<2, 3, 32, 32>>());
}
