//! A grey image for a layer of three channels.
use ssprop::prelude::*;

fn main() {
    let dev = Cpu::default();
    let conv = dev.build_module::<SparseConv2D<3, 8, 3, 1, 1>, f32>();
    conv.forward(dev.zeros::<Rank4<2, 1, 32, 32>>());
}
