//! Three heads of eight channels.
use ssprop::nn::builders::AttentionBlock;
use ssprop::prelude::*;

fn main() {
    let dev = Cpu::default();
    let block = dev.build_module::<AttentionBlock<3, 2, 8>, f32>();
    block.forward(dev.zeros::<Rank4<2, 8, 4, 4>>());
}
