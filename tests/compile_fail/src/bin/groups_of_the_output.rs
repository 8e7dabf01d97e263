//! Four groups of six output channels.
use ssprop::prelude::*;

fn main() {
    let dev = Cpu::default();
    dev.build_module::<SparseConv2D<8, 6, 3, 1, 1, 1, 4>, f32>();
}
