//! Ten training steps of two small networks follow PyTorch's losses, dense and with 80% of the output
//! channels dropped. `fixtures/make_training.py` made the numbers.

use ::safetensors::{Dtype as FileDtype, SafeTensors};
use dfdx::data::OneHotEncode;
use dfdx::tensor_ops::Backward as _;
use ssprop::nn::modules;
use ssprop::prelude::*;

const FIXTURE: &[u8] = include_bytes!("../fixtures/training.safetensors");
const RESIDUAL: &[u8] = include_bytes!("../fixtures/training_residual.safetensors");
const STEPS: usize = 10;
const TOLERANCE: f32 = 1e-4;

type Net = (
    BiasedSparseConv2D<3, 8, 3, 1, 1>,
    ReLU,
    BiasedSparseConv2D<8, 16, 3, 2, 1>,
    ReLU,
    AvgPoolGlobal,
    Linear<16, 10>,
);

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), FileDtype::F32, "{name}");
    let (elements, _) = tensor.data().as_chunks();
    elements
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect()
}

fn labels(file: &SafeTensors<'_>) -> Vec<usize> {
    let tensor = file.tensor("labels").unwrap();
    assert_eq!(tensor.dtype(), FileDtype::I64);
    let (elements, _) = tensor.data().as_chunks();
    elements
        .iter()
        .map(|&bytes| i64::from_le_bytes(bytes) as usize)
        .collect()
}

/// The loss of each step, before its update, with dfdx's Adam.
fn train(file: &SafeTensors<'_>, drop_rate: DropRate) -> Vec<f32> {
    let dev = Cpu::default();
    let mut net = dev.build_module::<Net, f32>();
    net.0.weight.copy_from(&floats(file, "conv1.weight"));
    net.0.bias.copy_from(&floats(file, "conv1.bias"));
    net.2.weight.copy_from(&floats(file, "conv2.weight"));
    net.2.bias.copy_from(&floats(file, "conv2.bias"));
    net.5.weight.copy_from(&floats(file, "linear.weight"));
    net.5.bias.copy_from(&floats(file, "linear.bias"));
    net.set_drop_rate(drop_rate);

    let config = dfdx::optim::AdamConfig {
        lr: 1e-2,
        ..Default::default()
    };
    let mut adam = dfdx::optim::Adam::new(&net, config);
    let mut grads = net.alloc_grads();
    let images = floats(file, "images");
    let labels = labels(file);
    let steps = images.chunks(8 * 3 * 8 * 8).zip(labels.chunks(8));
    steps
        .map(|(images, labels)| {
            let x: Tensor<Rank4<8, 3, 8, 8>, f32, _> = dev.tensor(images.to_vec());
            let labels: [usize; 8] = labels.try_into().unwrap();
            let target = dev.one_hot_encode(Const::<10>, labels);
            let logits =
                net.forward_mut(x.traced(std::mem::replace(&mut grads, Gradients::leaky())));
            let loss = cross_entropy_with_logits_loss(logits, target);
            let value = loss.array();
            grads = loss.backward();
            adam.update(&mut net, &grads).unwrap();
            net.zero_grads(&mut grads);
            value
        })
        .collect()
}

/// 16 channels each way: the 3x3 convolutions of the block take the Winograd path.
type Stem = (SparseConv2D<3, 16, 3, 1, 1>, BatchNorm2D<16>, ReLU);
type Block = Residual<(
    SparseConv2D<16, 16, 3, 1, 1>,
    BatchNorm2D<16>,
    ReLU,
    SparseConv2D<16, 16, 3, 1, 1>,
    BatchNorm2D<16>,
)>;
type ResidualNet = (Stem, Block, ReLU, GlobalAvgPool, Linear<16, 10>);

/// The loss of each step, before its update, with our Adam.
fn train_residual(file: &SafeTensors<'_>, drop_rate: DropRate) -> Vec<f32> {
    let dev = Cpu::default();
    let mut net = dev.build_module::<ResidualNet, f32>();
    let norm = |norm: &mut modules::BatchNorm2D<16, f32, Cpu>, name: &str| {
        norm.weight
            .copy_from(&floats(file, &format!("{name}.weight")));
        norm.bias.copy_from(&floats(file, &format!("{name}.bias")));
    };
    net.0 .0.weight.copy_from(&floats(file, "conv1.weight"));
    norm(&mut net.0 .1, "bn1");
    let block = &mut net.1 .0;
    block.0.weight.copy_from(&floats(file, "conv2.weight"));
    norm(&mut block.1, "bn2");
    block.3.weight.copy_from(&floats(file, "conv3.weight"));
    norm(&mut block.4, "bn3");
    net.4.weight.copy_from(&floats(file, "linear.weight"));
    net.4.bias.copy_from(&floats(file, "linear.bias"));
    net.set_drop_rate(drop_rate);

    let config = AdamConfig {
        lr: 1e-3,
        ..AdamConfig::adam()
    };
    let mut adam = Adam::new(&net, config).unwrap();
    let images = floats(file, "images");
    let labels = labels(file);
    let steps = images.chunks(8 * 3 * 8 * 8).zip(labels.chunks(8));
    steps
        .map(|(images, labels)| {
            let x: Tensor<Rank4<8, 3, 8, 8>, f32, _> = dev.tensor(images.to_vec());
            let labels: [usize; 8] = labels.try_into().unwrap();
            let target = dev.one_hot_encode(Const::<10>, labels);
            let logits = net.forward_mut(x.leaky_trace());
            let loss = cross_entropy_with_logits_loss(logits, target);
            let value = loss.array();
            adam.update(&mut net, &loss.backward()).unwrap();
            value
        })
        .collect()
}

fn assert_follows(found: &[f32], expected: &[f32]) {
    assert_eq!((found.len(), expected.len()), (STEPS, STEPS));
    for (step, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / expected;
        assert!(
            error <= TOLERANCE,
            "step {step}: loss {found}, PyTorch's {expected}: off by {error:e}"
        );
    }
}

#[test]
fn dense_training_follows_pytorch() {
    let file = SafeTensors::deserialize(FIXTURE).unwrap();
    let losses = train(&file, DropRate::DENSE);
    assert_follows(&losses, &floats(&file, "losses.dense"));
}

#[test]
fn sparse_training_follows_pytorch() {
    let file = SafeTensors::deserialize(FIXTURE).unwrap();
    let losses = train(&file, DropRate::new(0.8).unwrap());
    assert_follows(&losses, &floats(&file, "losses.sparse"));
    assert_drops_are_seen(&file);
}

#[test]
fn dense_training_of_a_residual_network_follows_pytorch() {
    let file = SafeTensors::deserialize(RESIDUAL).unwrap();
    let losses = train_residual(&file, DropRate::DENSE);
    assert_follows(&losses, &floats(&file, "losses.dense"));
}

#[test]
fn sparse_training_of_a_residual_network_follows_pytorch() {
    let file = SafeTensors::deserialize(RESIDUAL).unwrap();
    let losses = train_residual(&file, DropRate::new(0.8).unwrap());
    assert_follows(&losses, &floats(&file, "losses.sparse"));
    assert_drops_are_seen(&file);
}

/// The dense losses would not follow the sparse ones: the comparison sees the dropped channels.
fn assert_drops_are_seen(file: &SafeTensors<'_>) {
    let expected = floats(file, "losses.sparse");
    let dense = floats(file, "losses.dense");
    let apart = |(a, b): (&f32, &f32)| (a - b).abs() / b > 10.0 * TOLERANCE;
    assert!(dense[1..].iter().zip(&expected[1..]).all(apart));
}
