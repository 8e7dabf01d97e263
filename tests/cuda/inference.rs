//! A network's graph on the GPU, where convolution, sum and ReLU are kernels one after the other.

use ssprop::inference::{Graph, Inference};
use ssprop::prelude::*;
use support::seem_trained;

#[test]
fn folded_logits_are_the_cpus() {
    type Net = (
        (
            SparseConv2D<3, 8, 3, 1, 1>,
            ssprop::nn::builders::BatchNorm2D<8>,
            ReLU,
        ),
        Residual<SparseConv2D<8, 8, 3, 1, 1>>,
        (ReLU, MaxPool2D<2, 2>),
        GlobalAvgPool,
        SparseLinear<8, 5>,
    );
    let cpu = Cpu::seed_from_u64(0);
    let mut net = cpu.build_module::<Net, f32>();
    seem_trained(&mut net, 1);
    let x: Tensor<Rank4<2, 3, 8, 8>, f32, _> = cpu.sample_normal();
    let expected: Tensor<Rank2<2, 5>, f32, _> = net.forward(x.clone());
    let graph = Graph::of(&net).unwrap().fold_batch_norms();

    let cuda = crate::support::cuda();
    let x: Tensor<Rank4<2, 3, 8, 8>, f32, _> = cuda.tensor(x.array());
    let found: Tensor<Rank2<2, 5>, f32, _> =
        Inference::new(&cuda, &graph).unwrap().run(&x).unwrap();
    for (found, expected) in found.as_vec().iter().zip(expected.as_vec()) {
        assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
    }
}
