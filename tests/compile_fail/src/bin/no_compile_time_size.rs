//! Stride 3 has no size at compile time.
use ssprop::prelude::*;

fn main() {
    let dev = Cpu::default();
    let conv = dev.build_module::<SparseConv2D<3, 8, 3, 3, 1>, f32>();
    conv.forward(dev.zeros::<Rank4<2, 3, 32, 32>>());
}
