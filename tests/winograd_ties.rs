//! Images with flat backgrounds: what Winograd's algorithm does to ties.
//!
//! A plain sum gives equal values where the image is flat, and max pools then take the first of them.
//! An algorithm whose rounding errors differ from pixel to pixel lets those errors decide, which moves
//! gradients to other pixels and can change which channels a sparse backward pass keeps.
//!
//!     cargo test --test winograd_ties -- --nocapture
//!     cargo test --test winograd_ties -- --nocapture --ignored   # trains for minutes

use dfdx::tensor_ops::Backward as _;
use ssprop::data::{bundled, BatchLoader, Normalization};
use ssprop::prelude::*;

type Block<const C_IN: usize, const C_OUT: usize, POOL> = (
    SparseConv2D<C_IN, C_OUT, 3, 1, 1>,
    BatchNorm2D<C_OUT>,
    ReLU,
    POOL,
);
/// Convolutions at 28x28, 14x14 and 7x7; the last two are Winograd's.
type Net = (
    Block<1, WIDTH, MaxPool2D<2, 2>>,
    Block<WIDTH, WIDTH, MaxPool2D<2, 2>>,
    Block<WIDTH, WIDTH, GlobalAvgPool>,
    Linear<WIDTH, 10>,
);

const STEPS: usize = 36;
const BATCH: usize = 32;
const WIDTH: usize = 64;

/// Which rows of a weight's gradient hold anything: the channels that were kept.
fn kept(gradient: &[f32]) -> Vec<bool> {
    let rows = gradient.chunks(gradient.len() / WIDTH);
    rows.map(|row| row.iter().any(|&g| g != 0.0)).collect()
}

/// Trains for some steps at 80% dropped. Of each step's kept channels, in all layers: how many, and
/// how many a backward pass without Winograd's algorithm would not have kept.
fn train(seed: u64) -> Vec<[usize; 2]> {
    let (train, _) = bundled().unwrap();
    let loader = BatchLoader::new(&train, BATCH)
        .unwrap()
        .normalize(Normalization::of(&train).unwrap())
        .unwrap()
        .shuffle(seed);
    let dev = Cpu::seed_from_u64(seed);
    let mut net = dev.build_module::<Net, f32>();
    net.set_drop_rate(DropRate::new(0.8).unwrap());
    let mut adam = Adam::new(&net, AdamConfig::adam()).unwrap();
    let mut steps = Vec::new();
    for batch in loader.epoch(0).take(STEPS) {
        let batch = batch.unwrap();
        let mut pass = |winograd| {
            net.visit_sparse(&mut |layer| layer.backward.winograd = winograd);
            let x = batch.image_tensor::<1, 28, 28, f32, _>(&dev).unwrap();
            let target = batch.one_hot::<10, f32, _>(&dev).unwrap();
            let logits = net.forward_mut(x.leaky_trace());
            let grads = cross_entropy_with_logits_loss(logits, target).backward();
            let kept = [
                kept(&grads.get(&net.0 .0.weight).as_vec()),
                kept(&grads.get(&net.1 .0.weight).as_vec()),
                kept(&grads.get(&net.2 .0.weight).as_vec()),
            ];
            (grads, kept.concat())
        };
        let (_, plain) = pass(false);
        let (grads, found) = pass(true);
        let others = found.iter().zip(&plain).filter(|(&f, &p)| f && !p);
        steps.push([found.iter().filter(|&&f| f).count(), others.count()]);
        adam.update(&mut net, &grads).unwrap();
    }
    steps
}

/// The 2x2 windows of the second layer's output, before its pool, whose largest value is there more
/// than once.
fn tied_windows(winograd: bool) -> Vec<bool> {
    let (train, _) = bundled().unwrap();
    let loader = BatchLoader::new(&train, BATCH).unwrap();
    let loader = loader
        .normalize(Normalization::of(&train).unwrap())
        .unwrap();
    let batch = loader.epoch(0).next().unwrap().unwrap();
    let dev = Cpu::seed_from_u64(0);
    let mut net = dev.build_module::<Net, f32>();
    net.visit_sparse(&mut |layer| layer.backward.winograd = winograd);
    let x = batch.image_tensor::<1, 28, 28, f32, _>(&dev).unwrap();
    let y = net.1 .0.forward(net.0.forward(x)).as_vec();
    let windows = |plane: &[f32]| -> Vec<bool> {
        let at = |i: usize| 28 * (i / 7) + 2 * (i % 7);
        let window = |i: usize| [0, 1, 14, 15].map(|offset| plane[at(i) + offset]);
        let tied = |window: [f32; 4]| {
            let largest = window.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
            window.iter().filter(|&&v| v == largest).count() > 1
        };
        (0..49).map(|i| tied(window(i))).collect()
    };
    y.chunks(14 * 14).flat_map(windows).collect()
}

#[test]
fn many_ties_of_flat_backgrounds_stay() {
    let (plain, winograd) = (tied_windows(false), tied_windows(true));
    let all = plain.iter().filter(|&&tied| tied).count();
    let left = plain.iter().zip(&winograd).filter(|(&p, &w)| p && w);
    let left = left.count();
    println!("{left} of {all} tied windows stay tied");
    assert!(all > 1000 && 5 * left > 2 * all, "{left} of {all}");

    let mut total = [0; 2];
    for seed in 0..3 {
        let steps = train(seed);
        let sum = |i: usize| steps.iter().map(|step| step[i]).sum::<usize>();
        let moved = steps.iter().filter(|step| step[1] > 0).count();
        println!(
            "seed {seed}: {} of {} kept channels differ from those of plain products, in {moved} of \
             {STEPS} steps",
            sum(1),
            sum(0),
        );
        total = [total[0] + sum(0), total[1] + sum(1)];
    }
    assert!(total[0] > 0 && 100 * total[1] < total[0], "{total:?}");
}

/// The test accuracy after some epochs of training.
fn accuracy(seed: u64, schedule: Schedule, winograd: bool) -> f64 {
    let (train, test) = bundled().unwrap();
    let train = train.take_balanced(IMAGES);
    let normalization = Normalization::of(&train).unwrap();
    let loader = |data, batch| {
        let loader = BatchLoader::new(data, batch).unwrap();
        loader.normalize(normalization.clone()).unwrap()
    };
    let (train, test) = (loader(&train, BATCH).shuffle(seed), loader(&test, 100));
    let dev = Cpu::seed_from_u64(seed);
    let mut net = dev.build_module::<Net, f32>();
    net.visit_sparse(&mut |layer| layer.backward.winograd = winograd);
    let trainer = Trainer::new(net, AdamConfig::adam()).unwrap();
    let mut trainer = trainer.with_schedule(schedule).unwrap();
    for _ in 0..EPOCHS {
        let report = trainer.train_epoch::<1, 28, 28, 10>(&dev, &train, &mut ());
        report.unwrap();
    }
    let evaluation = trainer.evaluate::<1, 28, 28, 10>(&dev, &test).unwrap();
    100.0 * evaluation.accuracy()
}

const IMAGES: usize = 600;
const EPOCHS: usize = 4;
const SEEDS: u64 = 3;

#[test]
#[ignore = "trains twelve networks"]
fn accuracies_with_and_without_winograd_are_alike() {
    for (name, schedule) in [("dense", Schedule::DENSE), ("ssprop", Schedule::paper())] {
        let mut mean = [0.0; 2];
        for seed in 0..SEEDS {
            let found = [false, true].map(|winograd| accuracy(seed, schedule, winograd));
            println!(
                "{name}, seed {seed}: plain {:.1}%, Winograd {:.1}%",
                found[0], found[1]
            );
            for (mean, found) in mean.iter_mut().zip(found) {
                *mean += found / SEEDS as f64;
            }
        }
        println!("{name}: plain {:.2}%, Winograd {:.2}%", mean[0], mean[1]);
        assert!((mean[0] - mean[1]).abs() < 3.0, "{name}: {mean:?}");
    }
}
