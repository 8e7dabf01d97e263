//! The multi-layer perceptron: its tensors, its accounts, and training under every option.

use std::collections::BTreeMap;

use dfdx::tensor_ops::Backward as _;
use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::models::modules;
use ssprop::nn::ModelCost;
use ssprop::prelude::*;

type Small = MLP<2, 64, 32, 1>;
type Built = <Small as BuildOnDevice<Cpu, f32>>::Built;

#[test]
fn tensors_are_named_by_layer() {
    let dev = Cpu::default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mlp.safetensors");
    let net = dev.build_module::<MLP<10, 784, 48, 2>, f32>();
    net.save_safetensors(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let found: BTreeMap<_, _> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec()))
        .collect();
    let expected = [
        ("input.weight", vec![48, 784]),
        ("input.bias", vec![48]),
        ("hidden.0.weight", vec![48, 48]),
        ("hidden.0.bias", vec![48]),
        ("hidden.1.weight", vec![48, 48]),
        ("hidden.1.bias", vec![48]),
        ("linear.weight", vec![10, 48]),
        ("linear.bias", vec![10]),
    ];
    let expected = expected.map(|(name, shape)| (name.to_string(), shape));
    assert_eq!(found, BTreeMap::from(expected));

    let mut other = dev.build_module::<MLP<10, 784, 48, 2>, f32>();
    let x: Tensor<Rank4<3, 1, 28, 28>, f32, _> = dev.sample_normal();
    let logits =
        |net: &modules::MLP<10, 784, 48, 2, f32, Cpu>| net.try_forward(x.clone()).unwrap().array();
    assert_ne!(logits(&other), logits(&net));
    other.load_safetensors(&path).unwrap();
    assert_eq!(logits(&other), logits(&net));
    let wide = net.to_dtype::<f64>();
    assert_eq!(wide.hidden.modules.len(), 2);
}

#[test]
fn parameters_and_depths() {
    let dev = Cpu::default();
    let net = dev.build_module::<MLP<10, 784>, f32>();
    assert_eq!(net.num_trainable_params(), 669_706);
    let mut net = dev.build_module::<MLP<3, 12, 5, 0>, f32>();
    assert_eq!(net.num_trainable_params(), 12 * 5 + 5 + 5 * 3 + 3);
    let mut paths = Vec::new();
    net.visit_sparse(&mut |layer| {
        paths.push((layer.path.to_owned(), layer.backward.input_gradient))
    });
    assert_eq!(paths, [("input".to_string(), false)]);
}

/// The layers one after the other by dfdx's own operations.
#[test]
fn a_dense_pass_equals_dfdxs_layers() {
    let dev = Cpu::seed_from_u64(3);
    let mut net = dev.build_module::<MLP<4, 24, 20, 1>, f64>();
    net.input.backward.input_gradient = true;
    let x: Tensor<Rank4<5, 2, 3, 4>, f64, _> = dev.sample_normal();
    let logits = net.try_forward(x.leaky_trace()).unwrap();
    let found = logits.array();
    let grads = logits.square().sum().backward();

    let flat = x.clone().reshape::<Rank2<5, 24>>();
    let h = flat
        .leaky_trace()
        .matmul(net.input.weight.clone().permute());
    let h = (h + net.input.bias.clone().broadcast::<Rank2<5, 20>, _>()).relu();
    let h = h.matmul(net.hidden[0].weight.clone().permute());
    let h = (h + net.hidden[0].bias.clone().broadcast::<Rank2<5, 20>, _>()).relu();
    let y = net.linear.forward(h);
    let close = |a: Vec<f64>, b: Vec<f64>, what| {
        assert!(a.len() == b.len() && a.iter().any(|&g| g != 0.0), "{what}");
        let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f64::max) < 1e-12, "{what}");
    };
    let flatten = |rows: [[f64; 4]; 5]| rows.concat();
    close(flatten(found), flatten(y.array()), "logits");
    let expected = y.square().sum().backward();
    let (dx, expected_dx) = (grads.get(&x).as_vec(), expected.get(&flat).as_vec());
    close(dx, expected_dx, "dX");
    let expected = expected.get(&net.linear.weight).as_vec();
    close(grads.get(&net.linear.weight).as_vec(), expected, "dW");
}

#[test]
fn accounts_count_the_sparse_layers() {
    let cost = ModelCost::of::<modules::MLP<10, 784, 512, 1, f32, Cpu>>([1, 28, 28]).unwrap();
    let dense = cost.per_iteration(128, DropRate::DENSE);
    assert_eq!(dense, 4.0 * 128.0 * (784.0 * 512.0 + 512.0 * 512.0));
    assert!(ModelCost::of::<modules::MLP<10, 784, 512, 1, f32, Cpu>>([3, 32, 32]).is_err());
}

/// Vertical and horizontal stripes with some noise, in turn.
pub fn stripes(n: usize) -> ImageDataset {
    let pixel = |i: usize, y: usize, x: usize| {
        let line = if i.is_multiple_of(2) { x } else { y };
        let noise = (i * 7919 + y * 104_729 + x * 1_299_709) % 61;
        (line % 2 * 190 + noise) as u8
    };
    let images = (0..n * 64).map(|k| pixel(k / 64, k / 8 % 8, k % 8));
    let labels = (0..n).map(|i| (i % 2) as u16);
    let shape = ImageShape::new(1, 8, 8);
    ImageDataset::new(images.collect(), labels.collect(), shape, 2).unwrap()
}

fn trainer(selection: Selection) -> (Cpu, Trainer<Built, Cpu>) {
    let dev = Cpu::seed_from_u64(3);
    let mut model = dev.build_module::<Small, f32>();
    model.set_drop_rate(DropRate::new(0.75).unwrap());
    model.set_selection(selection);
    let cfg = AdamConfig {
        lr: 1e-2,
        ..AdamConfig::adam()
    };
    (dev, Trainer::new(model, cfg).unwrap())
}

/// Trains to `epochs`; the losses of each batch are not rounded.
fn train(dev: &Cpu, trainer: &mut Trainer<Built, Cpu>, epochs: u64) -> Vec<f64> {
    let data = stripes(40);
    let loader = BatchLoader::new(&data, 12).unwrap().shuffle(9);
    let mut losses = Vec::new();
    while trainer.epoch() < epochs {
        let report = trainer.train_epoch::<1, 8, 8, 2>(dev, &loader, &mut ());
        losses.push(report.unwrap().loss);
    }
    losses
}

fn random(seed: u64) -> Selection {
    Selection::Random {
        seed,
        rescale: true,
    }
}

#[test]
fn it_learns_under_every_selection() {
    let adaptive = Selection::Adaptive(AdaptiveKeep::new(0.8).unwrap());
    for selection in [Selection::TopK, random(1), adaptive] {
        let (dev, mut trainer) = trainer(selection);
        let losses = train(&dev, &mut trainer, 12);
        assert!(losses[11] < 0.2 * losses[0], "{selection:?}: {losses:?}");
        let data = stripes(20);
        let loader = BatchLoader::new(&data, 20).unwrap();
        let test = trainer.evaluate::<1, 8, 8, 2>(&dev, &loader).unwrap();
        assert_eq!(test.accuracy(), 1.0, "{selection:?}");
    }
}

#[test]
fn a_random_run_repeats_and_resumes_bit_for_bit() {
    let run = |selection| {
        let (dev, mut trainer) = trainer(selection);
        train(&dev, &mut trainer, 4)
    };
    let losses = run(random(1));
    assert_eq!(losses, run(random(1)));
    assert_ne!(losses, run(random(2)));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("half.safetensors");
    let (dev, mut first) = trainer(random(1));
    train(&dev, &mut first, 2);
    first.save(&path, &Default::default()).unwrap();
    let (dev, mut second) = trainer(random(1));
    second.resume(&path).unwrap();
    assert_eq!(train(&dev, &mut second, 4), losses[2..]);
}

#[test]
fn the_trainer_draws_other_features_each_iteration() {
    let (dev, mut trainer) = trainer(random(1));
    let drawn = |trainer: &mut Trainer<Built, Cpu>| {
        let mut draws = Vec::new();
        let mut note = |layer: ssprop::nn::SparseLayer<'_>| draws.push(layer.backward.draw);
        trainer.model.visit_sparse(&mut note);
        draws
    };
    train(&dev, &mut trainer, 1);
    let first = drawn(&mut trainer);
    assert_ne!(first[0], first[1], "layers differ");
    train(&dev, &mut trainer, 2);
    assert_ne!(drawn(&mut trainer), first, "epochs differ");
    // The last of two epochs of four batches.
    let last = drawn(&mut trainer);
    trainer.model.set_iteration(7);
    assert_eq!(drawn(&mut trainer), last);
}

/// FLOPs before training are by the rule's upper bound, those after by what was kept.
#[test]
fn adaptive_runs_are_accounted_for() {
    let rule = AdaptiveKeep::new(0.8).unwrap().with_bounds(0.1, 0.5);
    let (dev, mut trainer) = trainer(Selection::Adaptive(rule.unwrap()));
    let counts: BTreeMap<_, _> = trainer.model.count_kept().into_iter().collect();
    let data = stripes(36);
    let loader = BatchLoader::new(&data, 12).unwrap();
    let report = trainer.train_epoch::<1, 8, 8, 2>(&dev, &loader, &mut ());
    let cost = ModelCost::of::<Built>([1, 8, 8]).unwrap();
    let bound = 3.0 * cost.per_iteration(12, DropRate::new(0.5).unwrap());
    assert_eq!(report.unwrap().backward_flops, bound);
    let kept = 3.0 * cost.per_iteration_by_layer(12, |path| counts[path].drop_rate());
    assert!(0.0 < kept && kept < bound, "{kept} of at most {bound}");
    assert!(counts.values().all(|count| count.passes() == 3));
}
