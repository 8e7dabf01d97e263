//! Patches of five pixels in a row of 28.
use ssprop::prelude::*;

fn main() {
    let dev = Cpu::default();
    let net = dev.build_module::<ViT<10, 1, 28, 5, 8, 16, 2, 1>, f32>();
    let _ = net.try_forward(dev.zeros::<Rank4<2, 1, 28, 28>>());
}
