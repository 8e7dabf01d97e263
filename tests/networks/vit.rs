//! The vision transformer: PyTorch's numbers from PyTorch's state dict, its accounts, and training.

use std::path::{Path, PathBuf};

use ::safetensors::SafeTensors;
use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::models::modules;
use ssprop::nn::{ModelCost, ModelSummary};
use ssprop::prelude::*;

use crate::mlp::stripes;

/// What `fixtures/make_vit.py` made.
const FIXTURE: &[u8] = include_bytes!("../fixtures/vit.safetensors");
type Small = ViT<5, 2, 8, 4, 12, 20, 3, 2>;
type Net<E> = modules::ViT<5, 2, 8, 4, 12, 20, 3, 2, E, Cpu>;

fn state_dict() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vit_state_dict.safetensors")
}

fn loaded<E: ssprop::checkpoint::StoredElement>() -> Net<E>
where
    Cpu: ssprop::Backend<E>,
    Small: BuildOnDevice<Cpu, E, Built = Net<E>>,
    Net<E>: TensorCollection<E, Cpu>,
{
    let mut net = Cpu::default().build_module::<Small, E>();
    checkpoint::load(state_dict(), &mut net).unwrap();
    net
}

/// A tensor of f32 or f64.
fn numbers(file: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let tensor = file.tensor(name).unwrap();
    let narrow = |b: &[u8; 4]| f64::from(f32::from_le_bytes(*b));
    match tensor.dtype() {
        ::safetensors::Dtype::F32 => tensor.data().as_chunks().0.iter().map(narrow).collect(),
        ::safetensors::Dtype::F64 => {
            let (elements, _) = tensor.data().as_chunks();
            elements.iter().map(|&b| f64::from_le_bytes(b)).collect()
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[track_caller]
fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0, |m: f64, e| m.max(e.abs()));
    assert!(largest > 0.0, "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / largest;
        assert!(
            error <= tolerance,
            "{what}[{i}]: {found}, PyTorch's {expected}"
        );
    }
}

/// The logits, and every parameter's gradient under its name.
type Step = (Vec<f64>, Vec<(String, Vec<f64>)>);

macro_rules! step {
    ($net:expr, $file:expr, $E:ty) => {{
        let (net, dev) = (&$net, Cpu::default());
        let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as $E).collect::<Vec<_>>();
        let x = dev.tensor_from_vec(
            narrow(numbers($file, "images")),
            <Rank4<4, 2, 8, 8>>::default(),
        );
        let tensor = $file.tensor("labels").unwrap();
        let mut target = vec![0.0 as $E; 4 * 5];
        for (i, &label) in tensor.data().as_chunks().0.iter().enumerate() {
            target[5 * i + i64::from_le_bytes(label) as usize] = 1.0;
        }
        let target = dev.tensor_from_vec(target, <Rank2<4, 5>>::default());
        let logits = net.try_forward(x.leaky_trace()).unwrap();
        let wide = |values: Vec<$E>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        let found = wide(logits.as_vec());
        let grads = cross_entropy_with_logits_loss(logits, target).backward();
        let mut all = Vec::new();
        macro_rules! gradient {
            ($name:expr, $tensor:expr) => {
                all.push(($name.to_string(), wide(grads.get($tensor).as_vec())));
            };
        }
        macro_rules! layer {
            ($name:expr, $layer:expr) => {
                gradient!(format!("{}.weight", $name), &$layer.weight);
                gradient!(format!("{}.bias", $name), &$layer.bias);
            };
        }
        gradient!("pos_embed", &net.pos_embed);
        layer!("patch_embed.proj", net.patch_embed);
        layer!("fc_norm", net.fc_norm);
        layer!("head", net.head);
        for (i, block) in net.blocks.modules.iter().enumerate() {
            layer!(format!("blocks.{i}.norm1"), block.norm1);
            layer!(format!("blocks.{i}.attn.qkv"), block.qkv);
            layer!(format!("blocks.{i}.attn.proj"), block.proj);
            layer!(format!("blocks.{i}.norm2"), block.norm2);
            layer!(format!("blocks.{i}.mlp.fc1"), block.fc1);
            layer!(format!("blocks.{i}.mlp.fc2"), block.fc2);
        }
        (found, all)
    }};
}

fn compare(kind: &str, (logits, gradients): Step, tolerance: f64) {
    let file = SafeTensors::deserialize(FIXTURE).unwrap();
    close("logits", &logits, &numbers(&file, "logits"), tolerance);
    let of_kind = |name: &&str| name.starts_with(&format!("{kind}."));
    assert_eq!(
        gradients.len(),
        file.names().iter().copied().filter(|n| of_kind(n)).count()
    );
    for (name, found) in gradients {
        let name = format!("{kind}.{name}");
        close(&name, &found, &numbers(&file, &name), tolerance);
    }
}

#[test]
fn logits_and_gradients_are_those_of_pytorch() {
    let file = SafeTensors::deserialize(FIXTURE).unwrap();
    // The gradients are stored as f32.
    compare("dense", step!(loaded::<f64>(), &file, f64), 2e-7);
    compare("dense", step!(loaded::<f32>(), &file, f32), 5e-5);
}

#[test]
fn gradients_of_kept_channels_are_those_of_pytorch() {
    let file = SafeTensors::deserialize(FIXTURE).unwrap();
    let rate = DropRate::new(0.8).unwrap();
    let mut net = loaded::<f64>();
    net.set_drop_rate(rate);
    let counts = net.count_kept();
    compare("sparse", step!(net, &file, f64), 2e-7);
    // 2 of 12 channels, 7 of 36, 4 of 20.
    assert_eq!(counts.len(), 9);
    let qkv = counts.iter().find(|(path, _)| path == "blocks.1.attn.qkv");
    let kept = 1.0 - qkv.unwrap().1.drop_rate().rate();
    assert!((kept - 7.0 / 36.0).abs() < 1e-12, "{kept}");
    let mut net = loaded::<f32>();
    net.set_drop_rate(rate);
    compare("sparse", step!(net, &file, f32), 5e-5);
}

#[test]
fn accounts_count_the_linear_layers_and_the_patch_embedding() {
    type Net = modules::ViT<10, 1, 28, 4, 64, 256, 4, 6, f32, Cpu>;
    let cost = ModelCost::of::<Net>([1, 28, 28]).unwrap();
    assert_eq!(cost.layers.len(), 1 + 6 * 4);
    let block = 64.0 * (192.0 + 64.0 + 256.0 + 256.0);
    let dense = cost.per_iteration(10, DropRate::DENSE);
    assert_eq!(dense, 4.0 * 10.0 * 49.0 * (16.0 * 64.0 + 6.0 * block));
    for other in [[1, 32, 32], [3, 28, 28], [1, 28, 32]] {
        assert!(ModelCost::of::<Net>(other).is_err(), "{other:?}");
    }
    let mut net = Cpu::default().build_module::<Small, f32>();
    let mut visited = Vec::new();
    net.visit_sparse(&mut |layer| {
        let trained = layer.backward.input_gradient;
        visited.push((layer.path.to_owned(), trained))
    });
    let cost = ModelCost::of::<self::Net<f32>>([2, 8, 8]).unwrap();
    let counted = cost.layers.iter().map(|(path, _)| path.clone());
    // Only the patches need no gradient.
    let expected = counted.enumerate().map(|(i, path)| (path, i > 0));
    assert_eq!(visited, expected.collect::<Vec<_>>());
}

#[test]
fn a_summary_has_every_parameter() {
    let net = Cpu::default().build_module::<Small, f32>();
    let summary = ModelSummary::of(&net, [2, 8, 8], DropRate::DENSE).unwrap();
    let state = std::fs::read(state_dict()).unwrap();
    let state = SafeTensors::deserialize(&state).unwrap();
    let sizes = state
        .tensors()
        .into_iter()
        .map(|(_, t)| t.shape().iter().product::<usize>());
    assert_eq!(summary.parameters(), sizes.sum::<usize>());
    let of = |path: &str| {
        summary
            .layers
            .iter()
            .find(|layer| layer.path == path)
            .unwrap()
    };
    assert_eq!(of("blocks.1.attn.qkv").output, Some([36, 2, 2]));
    assert_eq!(of("pos_embed").parameters, 4 * 12);
}

type Striped = ViT<2, 1, 8, 2, 16, 32, 2, 2>;
type Built = <Striped as BuildOnDevice<Cpu, f32>>::Built;

fn train(epochs: u64, threads: usize) -> (Vec<f64>, f64) {
    ssprop::on_threads(Some(threads), || {
        let dev = Cpu::seed_from_u64(3);
        let mut model = dev.build_module::<Striped, f32>();
        model.set_drop_rate(DropRate::new(0.75).unwrap());
        let cfg = AdamConfig {
            lr: 3e-3,
            ..AdamConfig::adam()
        };
        let mut trainer: Trainer<Built, Cpu> = Trainer::new(model, cfg).unwrap();
        let data: ImageDataset = stripes(40);
        assert_eq!(data.shape(), ImageShape::new(1, 8, 8));
        let loader = BatchLoader::new(&data, 12).unwrap().shuffle(9);
        let mut losses = Vec::new();
        while trainer.epoch() < epochs {
            let report = trainer.train_epoch::<1, 8, 8, 2>(&dev, &loader, &mut ());
            losses.push(report.unwrap().loss);
        }
        let data = stripes(20);
        let loader = BatchLoader::new(&data, 20).unwrap();
        let test = trainer.evaluate::<1, 8, 8, 2>(&dev, &loader).unwrap();
        (losses, test.accuracy())
    })
    .unwrap()
}

#[test]
fn it_learns_with_a_sparse_backward_pass() {
    let (losses, accuracy) = train(12, 2);
    assert!(losses[11] < 0.3 * losses[0], "{losses:?}");
    assert_eq!(accuracy, 1.0);
}

#[test]
fn losses_do_not_depend_on_threads() {
    assert_eq!(train(2, 1), train(2, 3));
}
