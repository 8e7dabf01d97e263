//! A perceptron for 28x28 pixels, given 32x32.
use ssprop::prelude::*;

fn main() {
    let dev = Cpu::default();
    let net = dev.build_module::<MLP<10, 784>, f32>();
    let x: Tensor<Rank4<1, 1, 32, 32>, f32, _> = dev.zeros();
    let _ = net.try_forward(x);
}
