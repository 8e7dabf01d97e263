//! Denoisers on several ranks: their timesteps, noise and samples are those of one process.

use ssprop::data::{BatchLoader, ImageDataset, ImageShape, Normalization};
use ssprop::diffusion::{BetaSchedule, Diffusion, DiffusionTrainer, SampleRun, Sampler};
use ssprop::distributed::Communicator;
use ssprop::prelude::*;

use crate::on_ranks;

type Built = <MnistUNet as BuildOnDevice<Cpu, f32>>::Built;

/// Samples; then two epochs, dense and sparse, of two steps: the losses, and the evaluation's.
fn train(rank: &Communicator) -> Vec<f64> {
    let shape = ImageShape::new(1, 32, 32);
    let pixels = (0..5 * 1024).map(|i| (i * 37 % 251) as u8).collect();
    let data = ImageDataset::new(pixels, vec![0; 5], shape, 1).unwrap();
    let loader = BatchLoader::new(&data, 3)
        .and_then(|loader| loader.normalize(Normalization::symmetric(1)))
        .unwrap()
        .shuffle(0);
    let dev = Cpu::seed_from_u64(0);
    let diffusion = Diffusion::new(BetaSchedule::Cosine, 50).unwrap();
    let model: Built = dev.build_module::<MnistUNet, f32>();
    let mut trainer = DiffusionTrainer::new(model, AdamConfig::adamw(), diffusion, 7)
        .and_then(|t| t.with_schedule(Schedule::alternating(DropRate::new(0.8).unwrap())))
        .and_then(|t| t.with_ema(0.9))
        .and_then(|t| t.with_communicator(rank))
        .unwrap();
    let run = SampleRun {
        seed: 0,
        count: 3,
        batch: 2,
    };
    let sampler = Sampler::Ddim { steps: 2, eta: 0.5 };
    let images = sampler.sample_on::<1, 32, 32, _, _>(
        rank,
        trainer.diffusion(),
        trainer.averaged_model(),
        &dev,
        run,
        &mut |_| (),
    );
    let images = images.unwrap();
    let mut found: Vec<f64> = images.iter().map(|&value| value.into()).collect();
    for _ in 0..2 {
        let report = trainer.train_epoch::<1, 32, 32>(&dev, &loader, &mut ());
        found.push(report.unwrap().loss);
    }
    found.push(trainer.evaluate::<1, 32, 32>(&dev, &loader).unwrap());
    found
}

#[test]
fn a_u_net_trains_and_draws_as_on_one_rank() {
    let expected = train(&Communicator::alone());
    for found in on_ranks(2, |rank| train(&rank)) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
        }
    }
}

/// The embeddings of classes after two epochs, dense and sparse, and the evaluation's loss.
fn train_classes(rank: &Communicator) -> Vec<f64> {
    let shape = ImageShape::new(1, 8, 8);
    let pixels = (0..5 * 64).map(|i| (i * 37 % 251) as u8).collect();
    let data = ImageDataset::new(pixels, vec![0, 1, 2, 1, 0], shape, 3).unwrap();
    let loader = BatchLoader::new(&data, 3)
        .and_then(|loader| loader.normalize(Normalization::symmetric(1)))
        .unwrap()
        .shuffle(0);
    let dev = Cpu::seed_from_u64(0);
    let diffusion = Diffusion::new(BetaSchedule::Cosine, 50).unwrap();
    let model = dev.build_module::<ClassConditional<MnistUNet, 3, 64>, f32>();
    // Not Adam, which makes much of little differences.
    let sgd = SgdConfig {
        lr: 0.1,
        ..SgdConfig::default()
    };
    let sgd = Sgd::new(&model, sgd).unwrap();
    let trainer = Trainer::with_optimizer(model, sgd);
    let mut trainer = DiffusionTrainer::with_trainer(trainer, diffusion, 7)
        .with_schedule(Schedule::alternating(DropRate::new(0.8).unwrap()))
        .and_then(|t| t.with_class_dropout(0.3))
        .and_then(|t| t.with_communicator(rank))
        .unwrap();
    for _ in 0..2 {
        trainer
            .train_class_epoch::<1, 8, 8, 3>(&dev, &loader, &mut ())
            .unwrap();
    }
    let embeddings = trainer.model().label_emb.as_vec();
    let mut found: Vec<f64> = embeddings.iter().map(|&value| value.into()).collect();
    found.push(
        trainer
            .evaluate_classes::<1, 8, 8, 3>(&dev, &loader)
            .unwrap(),
    );
    found
}

#[test]
fn classes_are_learnt_as_on_one_rank() {
    let expected = train_classes(&Communicator::alone());
    assert!(expected.iter().any(|value| value.abs() > 1e-3));
    for found in on_ranks(2, |rank| train_classes(&rank)) {
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
        }
    }
}
