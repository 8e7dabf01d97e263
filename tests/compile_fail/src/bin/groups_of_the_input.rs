//! Four groups of six input channels.
use ssprop::prelude::*;

fn main() {
    let dev = Cpu::default();
    dev.build_module::<SparseConv2D<6, 8, 3, 1, 1, 1, 4>, f32>();
}
