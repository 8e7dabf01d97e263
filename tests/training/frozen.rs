//! A ResNet of which a part is frozen: what is trained gets the gradients that it would get if all were, and what
//! nobody needs is not computed.

use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::models::modules;
use ssprop::nn::ModelCost;
use ssprop::prelude::*;
use support::{norms, trained};

type Net = modules::ResNet18<2, 1, f32, Cpu>;

/// The network after a step in which only parameters that match `trained` are, the paths of the convolutions that had
/// a backward pass, and the backward FLOPs.
fn step(trained: &[&str]) -> (Net, Vec<String>, f64) {
    let pixels = (0..4 * 64).map(|i: usize| (i * 7919 % 251) as u8).collect();
    let data = ImageDataset::new(pixels, vec![0, 1, 1, 0], ImageShape::new(1, 8, 8), 2).unwrap();
    let loader = BatchLoader::new(&data, 4).unwrap();
    let dev = Cpu::seed_from_u64(3);
    let model = dev.build_module::<ResNet18<2, 1>, f32>();
    let config = SgdConfig {
        lr: 0.1,
        ..SgdConfig::default()
    };
    let sgd = Sgd::new(&model, config).unwrap();
    let groups = trained
        .iter()
        .fold(ParameterGroups::new().freeze("**"), |groups, path| {
            groups.unfreeze(*path)
        });
    let mut trainer = Trainer::with_optimizer(model, sgd)
        .with_schedule(Schedule::constant(DropRate::new(0.75).unwrap()))
        .and_then(|trainer| trainer.with_parameter_groups(&groups))
        .unwrap();
    let counts = trainer.model.count_kept();
    let report = trainer
        .train_epoch::<1, 8, 8, 2>(&dev, &loader, &mut ())
        .unwrap();
    let passed = counts.into_iter().filter(|(_, count)| count.passes() > 0);
    let passed = passed.map(|(path, _)| path).collect();
    (trainer.model, passed, report.backward_flops)
}

#[test]
fn nothing_is_computed_below_the_first_trained_layer() {
    let (all, passed, flops) = step(&["**"]);
    assert_eq!(passed.len(), 20);
    let (net, passed, less) = step(&["layer4", "linear"]);
    assert_eq!(passed.len(), 5);
    assert!(
        passed.iter().all(|path| path.starts_with("layer4")),
        "{passed:?}"
    );
    let bits = |net: &Net| {
        let block = &net.layer4.1;
        let [first, last] = [&block.conv1, &block.conv2].map(|conv| conv.weight.as_vec());
        [
            first,
            last,
            block.bn2.weight.as_vec(),
            net.layer4.0.shortcut.0.weight.as_vec(),
        ]
        .concat()
    };
    assert!(bits(&net) == bits(&all));
    assert_ne!(
        net.layer3.1.conv2.weight.as_vec(),
        all.layer3.1.conv2.weight.as_vec()
    );
    assert!(less > 0.0 && less < 0.5 * flops, "{less} of {flops}");
    let cost = ModelCost::of::<Net>([1, 8, 8]).unwrap();
    let rate = DropRate::new(0.75).unwrap();
    let counted = cost
        .layers
        .iter()
        .filter(|(path, _)| path.starts_with("layer4"));
    let counted: f64 = counted.map(|(_, layer)| layer.flops(4, rate)).sum();
    assert!(
        (less / counted - 1.0).abs() < 1e-12,
        "{less} instead of {counted}"
    );
    // Of the first convolution alone all others cost dX.
    let (.., first) = step(&["conv1"]);
    assert!(first > 0.5 * flops && first < flops, "{first} of {flops}");
}

#[test]
fn one_branch_of_a_block_may_be_trained_alone() {
    let (all, ..) = step(&["**"]);
    // The residual has a gradient, the convolutions beside it none; then the other way round.
    let (net, passed, _) = step(&["layer2.0.shortcut", "layer3", "layer4", "linear"]);
    assert_eq!(passed.len(), 13);
    let projection = |net: &Net| net.layer2.0.shortcut.0.weight.as_vec();
    assert_eq!(projection(&net), projection(&all));
    let (net, passed, _) = step(&["layer2.0.conv2"]);
    assert!(
        !passed.contains(&"layer2.0.shortcut.0".to_owned()),
        "{passed:?}"
    );
    let conv = |net: &Net| net.layer2.0.conv2.weight.as_vec();
    assert_eq!(conv(&net), conv(&all));
}

/// Their kernels compute the gradient of their input along with that of their weight.
#[test]
fn a_norm_alone_gets_the_gradient_that_it_gets_beside_others() {
    type Groups = (
        SparseConv2D<1, 8, 3, 1, 1>,
        GroupNorm<2, 8>,
        GlobalAvgPool,
        Linear<8, 2>,
    );
    let dev = Cpu::default();
    let model = || Cpu::seed_from_u64(1).build_module::<Groups, f32>();
    let weight = |of: &[&str]| trained(&dev, model(), of).1.weight.as_vec();
    assert_eq!(weight(&["1"]), weight(&["**"]));
    assert_ne!(weight(&["1"]), weight(&["3"]));

    let model = || Cpu::seed_from_u64(2).build_module::<ViT<2, 1, 8, 4, 8, 16, 2, 2>, f32>();
    let weight = |of: &[&str]| {
        let model = trained(&dev, model(), of);
        let [first, last] = [0, 1].map(|i| model.blocks.modules[i].norm1.weight.as_vec());
        [first, last, model.pos_embed.as_vec()].concat()
    };
    let all = weight(&["**"]);
    assert_eq!(weight(&["blocks.0.norm1"])[..8], all[..8]);
    assert_eq!(weight(&["blocks.1.norm1"])[8..16], all[8..16]);
    assert_eq!(weight(&["pos_embed"])[16..], all[16..]);
}

#[test]
fn a_norm_has_one_tensor_or_one_that_is_trained() {
    norms::one_tensor_gets_both_gradients(&Cpu::default());
    norms::one_of_both_may_be_trained(&Cpu::seed_from_u64(4));
}
