//! 20 training steps with each option of a trainer follow PyTorch's: losses, norms, weights and averages.
//! `fixtures/make_optimizers.py` made the numbers.

use ::safetensors::SafeTensors;
use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::optim::Optimizer;
use ssprop::prelude::*;

const FIXTURE: &[u8] = include_bytes!("../fixtures/optimizers.safetensors");
const STEPS: usize = 20;
const BATCH: usize = 6;
const TOLERANCE: f64 = 2e-5;

type Net = (
    SparseConv2D<1, 4, 3, 1, 1>,
    BatchNorm2D<4>,
    ReLU,
    GlobalAvgPool,
    Linear<4, 3>,
);
type Built = <Net as BuildOnDevice<Cpu, f32>>::Built;

fn floats(name: &str) -> Vec<f64> {
    let file = SafeTensors::deserialize(FIXTURE).unwrap();
    let tensor = file.tensor(name).unwrap();
    let (elements, _) = tensor.data().as_chunks();
    match tensor.dtype() {
        ::safetensors::Dtype::F64 => elements.iter().map(|&b| f64::from_le_bytes(b)).collect(),
        dtype => {
            assert_eq!(dtype, ::safetensors::Dtype::F32, "{name}");
            let (elements, _) = tensor.data().as_chunks();
            let elements = elements.iter().map(|&b| f32::from_le_bytes(b).into());
            elements.collect()
        }
    }
}

fn model() -> Built {
    let mut net = Cpu::default().build_module::<Net, f32>();
    let initial = |name: &str| -> Vec<f32> {
        let values = floats(&format!("initial.{name}"));
        values.into_iter().map(|x| x as f32).collect()
    };
    net.0.weight.copy_from(&initial("0.weight"));
    net.1.weight.copy_from(&initial("1.weight"));
    net.1.bias.copy_from(&initial("1.bias"));
    net.4.weight.copy_from(&initial("4.weight"));
    net.4.bias.copy_from(&initial("4.bias"));
    net
}

fn weights(net: &Built) -> [(&'static str, Vec<f32>); 5] {
    [
        ("0.weight", net.0.weight.as_vec()),
        ("1.weight", net.1.weight.as_vec()),
        ("1.bias", net.1.bias.as_vec()),
        ("4.weight", net.4.weight.as_vec()),
        ("4.bias", net.4.bias.as_vec()),
    ]
}

/// The images of the script.
fn loader() -> BatchLoader {
    let pixel = |i: usize, p: usize| i % 3 * 60 + (i * 7919 + p * 104_729 + i * p * 31) % 127;
    let images = 0..STEPS * BATCH;
    let pixels = images
        .clone()
        .flat_map(|i| (0..36).map(move |p| pixel(i, p) as u8));
    let labels = images.clone().map(|i| (i % 3) as u16);
    let shape = ImageShape::new(1, 6, 6);
    let data = ImageDataset::new(pixels.collect(), labels.collect(), shape, 3).unwrap();
    BatchLoader::new(&data, BATCH).unwrap()
}

struct Losses(Vec<f64>);

impl Observer for Losses {
    fn batch(&mut self, report: &BatchReport) {
        self.0.push(report.loss);
    }
}

/// Trains the steps, and compares with what PyTorch found in `case`.
fn follows<O>(case: &str, mut trainer: Trainer<Built, Cpu, O>)
where
    O: Optimizer<Built, f32, Cpu>,
{
    let mut losses = Losses(Vec::new());
    let dev = Cpu::default();
    let report = trainer
        .train_epoch::<1, 6, 6, 3>(&dev, &loader(), &mut losses)
        .unwrap();
    assert_close(case, "losses", &losses.0);
    assert_close(case, "norm", &[report.grad_norm.unwrap()]);
    let check = |kind: &str, net: &Built| {
        for (name, values) in weights(net) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            assert_close(case, &format!("{kind}.{name}"), &values);
        }
    };
    check("weights", &trainer.model);
    if let Some(ema) = trainer.ema() {
        check("average", &ema.model);
    }
}

fn assert_close(case: &str, name: &str, found: &[f64]) {
    let expected = floats(&format!("{case}.{name}"));
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs() / (1.0 + expected.abs());
        assert!(
            error <= TOLERANCE,
            "{case}, {name} {i}: {found}, PyTorch's {expected}: off by {error:e}"
        );
    }
}

fn sgd(config: SgdConfig) -> Trainer<Built, Cpu, Sgd<Built, f32, Cpu>> {
    let model = model();
    let sgd = Sgd::new(&model, config).unwrap();
    Trainer::with_optimizer(model, sgd)
}

fn plain() -> Trainer<Built, Cpu, Sgd<Built, f32, Cpu>> {
    sgd(SgdConfig {
        lr: 0.5,
        ..SgdConfig::default()
    })
}

fn nesterov() -> Trainer<Built, Cpu, Sgd<Built, f32, Cpu>> {
    sgd(SgdConfig {
        lr: 0.1,
        momentum: 0.9,
        nesterov: true,
        weight_decay: 0.01,
        ..SgdConfig::default()
    })
}

fn adam() -> Trainer<Built, Cpu> {
    let config = AdamConfig {
        lr: 1e-2,
        weight_decay: 0.1,
        ..AdamConfig::adam()
    };
    Trainer::new(model(), config).unwrap()
}

#[test]
fn sgd_with_and_without_momentum() {
    follows("sgd", plain());
    let momentum = SgdConfig {
        lr: 0.1,
        momentum: 0.9,
        ..SgdConfig::default()
    };
    follows("sgd_momentum", sgd(momentum));
    let dampening = SgdConfig {
        lr: 0.2,
        momentum: 0.8,
        dampening: 0.5,
        weight_decay: 0.05,
        ..SgdConfig::default()
    };
    follows("sgd_dampening", sgd(dampening));
    follows("sgd_nesterov", nesterov());
}

#[test]
fn gradient_clipping() {
    follows("sgd_clip_norm", plain().with_clip_norm(0.1).unwrap());
    follows("sgd_clip_value", plain().with_clip_value(0.02).unwrap());
    follows("adam_clip_norm", adam().with_clip_norm(0.1).unwrap());
}

#[test]
fn label_smoothing() {
    follows("adam_smoothing", adam().with_label_smoothing(0.1).unwrap());
}

#[test]
fn gradient_accumulation() {
    follows("adam_accumulate", adam().with_accumulation(3).unwrap());
}

#[test]
fn moving_averages() {
    follows("adam_ema", adam().with_ema(0.6).unwrap());
}

#[test]
fn all_options_together() {
    let trainer = nesterov()
        .with_clip_norm(0.2)
        .and_then(|t| t.with_clip_value(0.05))
        .and_then(|t| t.with_label_smoothing(0.2))
        .and_then(|t| t.with_accumulation(3))
        .and_then(|t| t.with_ema(0.9))
        .unwrap();
    follows(
        "all",
        trainer.with_lr_schedule(LrSchedule::cosine(1).unwrap()),
    );
}

#[test]
fn parameter_groups() {
    let config = AdamConfig {
        lr: 1e-2,
        weight_decay: 0.5,
        ..AdamConfig::adamw()
    };
    let groups = ParameterGroups::new()
        .without_decay_of_norms_and_biases()
        .with_lr_factor("0", 0.1)
        .unwrap();
    let model = model();
    let adamw = Adam::new(&model, config).unwrap();
    let adamw = adamw.with_groups(&model, &groups).unwrap();
    follows("groups", Trainer::with_optimizer(model, adamw));

    let config = SgdConfig {
        lr: 0.1,
        momentum: 0.9,
        weight_decay: 0.01,
        ..SgdConfig::default()
    };
    let groups = ParameterGroups::new().freeze("0");
    let groups = groups.with_weight_decay("4.weight", 0.2).unwrap();
    let trainer = sgd(config).with_parameter_groups(&groups).unwrap();
    follows("frozen", trainer.with_clip_norm(0.1).unwrap());
}
