//! Dropout after the norms of a model: where it is, and that it follows from the seed.

use dfdx::tensor_ops::Backward as _;
use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::models::{builders, modules};
use ssprop::nn::ModelCost;
use ssprop::prelude::*;

type Block = modules::DownBlock<4, 6, f64, Cpu>;
type Image = Tensor<Rank4<3, 4, 8, 8>, f64, Cpu>;

fn block(dev: &Cpu) -> (Block, Image) {
    let block = dev.build_module::<builders::DownBlock<4, 6>, f64>();
    (block, dev.sample_normal())
}

#[test]
fn it_comes_after_every_norm_with_masks_of_its_own() {
    let mut net = Cpu::default().build_module::<ResNet50<10>, f32>();
    net.set_dropout(0.4, 3).unwrap();
    let mut paths = Vec::new();
    let mut masks = Vec::new();
    net.visit_dropout(&mut |layer| {
        paths.push(format!("{}.dropout", layer.path));
        assert_eq!(layer.dropout.rate(), 0.4);
        masks.push(layer.dropout.next_mask());
    });
    assert_eq!(paths.len(), 53);
    for (i, mask) in masks.iter().enumerate() {
        assert!(!masks[..i].contains(mask), "{}", paths[i]);
    }

    let cost = ModelCost::of::<modules::ResNet50<10, 3, f32, Cpu>>([3, 32, 32]).unwrap();
    let cost = cost.with_dropout(|_| true);
    let counted = cost.layers.into_iter().map(|(path, _)| path);
    let counted: Vec<String> = counted.filter(|path| path.ends_with("dropout")).collect();
    assert_eq!(counted, paths);

    assert!(net.set_dropout(1.0, 3).is_err());
}

#[test]
fn a_block_is_what_its_parts_are_one_after_the_other() {
    let dev = Cpu::seed_from_u64(5);
    let (mut net, x) = block(&dev);
    net.set_dropout(0.3, 9).unwrap();
    let mut other = net.clone();
    let y = net.try_forward_mut(x.leaky_trace()).unwrap();

    let identity = ssprop::ops::batch_norm::Activation::Identity;
    let Block {
        conv1,
        bn1,
        conv2,
        bn2,
        shortcut,
    } = &mut other;
    let main = conv1.try_apply(x.leaky_trace()).unwrap();
    let main = bn1.try_train(main, None, identity).unwrap().relu();
    let main = conv2.try_apply(main).unwrap();
    let main = bn2.try_train(main, None, identity).unwrap();
    // An element is 0 by chance with probability 0.
    let zeros = main.as_vec().iter().filter(|&&v| v == 0.0).count();
    assert!((50..=120).contains(&zeros), "{zeros} of 288");
    let side = shortcut.0.try_apply(x.leaky_trace()).unwrap();
    let side = shortcut.1.try_train(side, None, identity).unwrap();
    let apart = (main + side).relu();

    let close = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(close(y.as_vec(), apart.as_vec()));
    let (a, b) = (y.square().sum().backward(), apart.square().sum().backward());
    assert!(close(a.get(&x).as_vec(), b.get(&x).as_vec()));
    let (wa, wb) = (&net.conv1.weight, &other.conv1.weight);
    assert!(close(a.get(wa).as_vec(), b.get(wb).as_vec()));
}

#[test]
fn it_is_off_in_inference_and_at_rate_0() {
    let dev = Cpu::seed_from_u64(5);
    let (plain, x) = block(&dev);
    let train = |mut net: Block| net.try_forward_mut(x.leaky_trace()).unwrap().as_vec();
    let mut net = plain.clone();
    net.set_dropout(0.3, 9).unwrap();
    let infer = |net: &Block| net.try_forward(x.clone()).unwrap().as_vec();
    assert_eq!(infer(&net), infer(&plain));
    assert_ne!(train(net.clone()), train(plain.clone()));
    net.set_dropout(0.0, 9).unwrap();
    assert_eq!(train(net), train(plain));
}

#[test]
fn steps_have_the_same_bits_on_1_2_and_4_threads() {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let dev = Cpu::seed_from_u64(5);
            let mut net = dev.build_module::<builders::DownBlock<16, 32>, f32>();
            net.set_dropout(0.3, 9).unwrap();
            let x: Tensor<Rank4<8, 16, 32, 32>, f32, _> = dev.sample_normal();
            let mut bits = Vec::new();
            for _ in 0..2 {
                let y = net.try_forward_mut(x.leaky_trace()).unwrap();
                bits.push(y.as_vec());
                bits.push(y.square().mean().backward().get(&x).as_vec());
            }
            bits
        })
    };
    let one = on(1);
    assert_ne!(one[0], one[2], "another mask in each step");
    assert_eq!(one, on(2));
    assert_eq!(one, on(4));
}

#[test]
fn a_resumed_run_draws_the_masks_that_it_would_have_drawn() {
    type Net = (
        SparseConv2D<1, 8, 3, 1, 1>,
        BatchNorm2D<8>,
        ReLU,
        GlobalAvgPool,
        Linear<8, 2>,
    );
    let pixels = (0..16 * 36).map(|i| (i * 7 % 251) as u8).collect();
    let labels = (0..16).map(|i| i % 2).collect();
    let data = ImageDataset::new(pixels, labels, ImageShape::new(1, 6, 6), 2).unwrap();
    let loader = BatchLoader::new(&data, 4).unwrap().shuffle(0);
    let trainer = |dropout| {
        let dev = Cpu::seed_from_u64(0);
        let mut model = dev.build_module::<Net, f32>();
        model.set_dropout(dropout, 2).unwrap();
        (Trainer::new(model, AdamConfig::adam()).unwrap(), dev)
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.safetensors");

    let (mut whole, dev) = trainer(0.5);
    let first = whole
        .train_epoch::<1, 6, 6, 2>(&dev, &loader, &mut ())
        .unwrap();
    whole.save(&file, &Default::default()).unwrap();
    let second = whole
        .train_epoch::<1, 6, 6, 2>(&dev, &loader, &mut ())
        .unwrap();

    let (mut resumed, dev) = trainer(0.5);
    resumed.resume(&file).unwrap();
    let again = resumed
        .train_epoch::<1, 6, 6, 2>(&dev, &loader, &mut ())
        .unwrap();
    assert_eq!(again.loss, second.loss);
    let weights = [&resumed, &whole].map(|trainer| trainer.model.4.weight.as_vec());
    assert_eq!(weights[0], weights[1]);

    // Without dropout another run, whose FLOPs are fewer by 2 M C (Eq. 8).
    let (mut dense, dev) = trainer(0.0);
    let plain = dense
        .train_epoch::<1, 6, 6, 2>(&dev, &loader, &mut ())
        .unwrap();
    assert_ne!(plain.loss, first.loss);
    let dropout = 2.0 * (16.0 * 36.0) * 8.0;
    assert_eq!(first.backward_flops - plain.backward_flops, dropout);
}
