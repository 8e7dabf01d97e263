//! The trainers, evaluation and sampling: what goes on between steps.

use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::diffusion::Guided;
use ssprop::distributed::Communicator;
use ssprop::prelude::*;

use crate::support::{agree, noise};

/// Images of `size` by `size` pixels of two classes: bright on the left, or on the right.
fn halves(images: usize, size: usize) -> ImageDataset {
    let values = noise(images * size * size, 1);
    let pixel = |(i, &v): (usize, &f32)| {
        let (image, column) = (i / (size * size), i % size);
        let bright = (column < size / 2) == (image % 2 == 0);
        (v * 20.0 + if bright { 180.0 } else { 60.0 }) as u8
    };
    let pixels = values.iter().enumerate().map(pixel).collect();
    let labels = (0..images).map(|i| (i % 2) as u16).collect();
    ImageDataset::new(pixels, labels, ImageShape::new(1, size, size), 2).unwrap()
}

#[test]
fn a_classifier_is_trained_and_evaluated() {
    type Net = (
        SparseConv2D<1, 16, 3, 1, 1>,
        BatchNorm2D<16>,
        ReLU,
        SparseConv2D<16, 16, 3, 2, 1>,
        Flatten<256>,
        Linear<256, 2>,
    );
    let data = halves(24, 8);
    agree!(1e-2, |dev: D| {
        let loader = BatchLoader::new(&data, 8).unwrap().shuffle(9);
        let model = dev.build_module::<Net, f32>();
        let mut trainer = Trainer::new(model, AdamConfig::adam()).unwrap();
        let mut losses = Vec::new();
        for epoch in 0..2 {
            let rate = DropRate::new([0.0, 0.75][epoch]).unwrap();
            trainer.model.set_drop_rate(rate);
            let report = trainer
                .train_epoch::<1, 8, 8, 2>(&dev, &loader, &mut ())
                .unwrap();
            losses.push(report.loss as f32);
        }
        let done = evaluate::<1, 8, 8, 2, _, _>(&trainer.model, &dev, &loader).unwrap();
        losses.push(done.loss as f32);
        vec![("losses", losses)]
    });
}

/// By a large step, so that the gradient counts.
#[test]
fn images_of_several_labels_are_trained_and_evaluated() {
    type Net = (
        SparseConv2D<1, 8, 3, 1, 1>,
        ReLU,
        GlobalAvgPool,
        Linear<8, 3>,
    );
    let pixels = noise(4 * 64, 1)
        .into_iter()
        .map(|v| (v * 60.0 + 128.0) as u8);
    let labels = (0..12).map(|i| i % 3 == 0 || i % 4 == 1).collect();
    let shape = ImageShape::new(1, 8, 8);
    let data = ImageDataset::multi_label(pixels.collect(), labels, shape, 3).unwrap();
    let config = SgdConfig {
        lr: 1.0,
        ..SgdConfig::default()
    };
    for rate in [0.0, 0.75] {
        agree!(1e-5, |dev: D| {
            let loader = BatchLoader::new(&data, 4).unwrap();
            let mut model = dev.build_module::<Net, f32>();
            model.set_drop_rate(DropRate::new(rate).unwrap());
            let sgd = Sgd::new(&model, config).unwrap();
            let mut trainer = Trainer::with_optimizer(model, sgd);
            let report = trainer
                .train_epoch::<1, 8, 8, 3>(&dev, &loader, &mut ())
                .unwrap();
            let done = trainer.evaluate::<1, 8, 8, 3>(&dev, &loader).unwrap();
            let (conv, .., linear) = &trainer.model;
            vec![
                ("losses", vec![report.loss as f32, done.loss as f32]),
                ("conv's weight", conv.weight.as_vec()),
                ("weight", linear.weight.as_vec()),
                ("bias", linear.bias.as_vec()),
            ]
        });
    }
}

#[test]
fn a_denoiser_is_trained_and_draws_images() {
    let data = halves(6, 8);
    agree!(1e-2, |dev: D| {
        let loader = BatchLoader::new(&data, 3).unwrap().shuffle(9);
        let model = dev.build_module::<MnistUNet, f32>();
        let diffusion = Diffusion::new(BetaSchedule::Cosine, 10).unwrap();
        let run = SampleRun {
            seed: 3,
            count: 3,
            batch: 2,
        };
        let sampler = Sampler::Ddim { steps: 2, eta: 0.5 };
        let images = sampler
            .sample::<1, 8, 8, _, _>(&diffusion, &model, &dev, run, &mut |_| ())
            .unwrap();
        let mut trainer = DiffusionTrainer::new(model, AdamConfig::adam(), diffusion, 5).unwrap();
        let report = trainer
            .train_epoch::<1, 8, 8>(&dev, &loader, &mut ())
            .unwrap();
        vec![("images", images), ("loss", vec![report.loss as f32])]
    });
}

#[test]
fn a_denoiser_is_told_classes_and_draws_them() {
    let data = halves(6, 8);
    // A test's own stack is small for what is not optimised.
    let compare = || {
        agree!(1e-2, |dev: D| {
            let loader = BatchLoader::new(&data, 3).unwrap().shuffle(9);
            let mut model = dev.build_module::<ClassConditional<MnistUNet, 2, 64>, f32>();
            model.label_emb.copy_from(&noise(2 * 64, 3));
            let diffusion = Diffusion::new(BetaSchedule::Cosine, 10).unwrap();
            let guided = Guided {
                model: &model,
                classes: vec![1, 0],
                scale: 2.0,
            };
            let run = SampleRun {
                seed: 3,
                count: 3,
                batch: 2,
            };
            let alone = Communicator::alone();
            let images = Sampler::Ddim { steps: 2, eta: 0.5 }
                .sample_guided::<1, 8, 8, 2, _, _>(
                    &alone,
                    &diffusion,
                    &guided,
                    &dev,
                    run,
                    &mut |_| (),
                )
                .unwrap();
            let mut trainer =
                DiffusionTrainer::new(model, AdamConfig::adam(), diffusion, 5).unwrap();
            let report = trainer
                .train_class_epoch::<1, 8, 8, 2>(&dev, &loader, &mut ())
                .unwrap();
            vec![("images", images), ("loss", vec![report.loss as f32])]
        })
    };
    ssprop::on_threads(None, compare).unwrap();
}

#[test]
fn two_ranks_train_as_one() {
    type Net = (
        SparseConv2D<1, 16, 3, 1, 1>,
        ReLU,
        SparseConv2D<16, 16, 3, 2, 1>,
        GlobalAvgPool,
        Linear<16, 2>,
    );
    let data = halves(10, 8);
    let losses = |ranks: &Communicator| {
        let dev = crate::support::cuda();
        let loader = BatchLoader::new(&data, 5).unwrap();
        let model = Cpu::seed_from_u64(1).build_module::<Net, f32>();
        let mut trainer = Trainer::new(model.to_device(&dev), AdamConfig::adam())
            .and_then(|t| t.with_communicator(ranks))
            .unwrap();
        trainer.model.set_drop_rate(DropRate::new(0.75).unwrap());
        let mut epoch = || trainer.train_epoch::<1, 8, 8, 2>(&dev, &loader, &mut ());
        [epoch().unwrap().loss, epoch().unwrap().loss]
    };
    let alone = losses(&Communicator::alone());
    let ranks = Communicator::threads(2).unwrap();
    std::thread::scope(|scope| {
        let losses = &losses;
        let threads: Vec<_> = ranks
            .into_iter()
            .map(|rank| scope.spawn(move || losses(&rank)))
            .collect();
        for thread in threads {
            for (found, expected) in thread.join().unwrap().iter().zip(alone) {
                assert!((found - expected).abs() < 1e-4, "{found}, {expected}");
            }
        }
    });
}
