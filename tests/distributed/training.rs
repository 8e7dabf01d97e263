//! Whole trainings on several ranks, and what becomes of one that is lost.

use std::time::{Duration, Instant};

use ssprop::data::BatchLoader;
use ssprop::distributed::Communicator;
use ssprop::prelude::*;
use ssprop::Error;

use crate::{images, on_ranks};

type Net = (
    BiasedSparseConv2D<1, 8, 3, 1, 1>,
    ReLU,
    BiasedSparseConv2D<8, 16, 3, 2, 1>,
    GlobalAvgPool,
    Linear<16, 4>,
);
type Normed = (
    SparseConv2D<1, 8, 3, 1, 1>,
    BatchNorm2D<8>,
    ReLU,
    (SparseConv2D<8, 16, 3, 2, 1>, BatchNorm2D<16>),
    GlobalAvgPool,
    Linear<16, 4>,
);

fn loader(batch: usize) -> BatchLoader {
    BatchLoader::new(&images(38), batch).unwrap().shuffle(2)
}

/// The loss of each epoch, and of the test.
fn losses(communicator: &Communicator, epochs: usize) -> Vec<f64> {
    let dev = Cpu::seed_from_u64(1);
    let config = AdamConfig {
        lr: 0.01,
        ..AdamConfig::adam()
    };
    let mut trainer = Trainer::new(dev.build_module::<Net, f32>(), config)
        .and_then(|t| t.with_schedule(Schedule::alternating(DropRate::new(0.75).unwrap())))
        .and_then(|t| t.with_clip_norm(0.5))
        .and_then(|t| t.with_ema(0.9))
        .and_then(|t| t.with_communicator(communicator))
        .unwrap();
    let mut losses = Vec::new();
    for _ in 0..epochs {
        let report = trainer.train_epoch::<1, 8, 8, 4>(&dev, &loader(10), &mut ());
        let report = report.unwrap();
        assert_eq!((report.images, report.batches), (38, 4));
        losses.push(report.loss);
        losses.push(report.backward_flops);
    }
    let (found, by_class) = trainer
        .evaluate_by_class::<1, 8, 8, 4>(&dev, &loader(10))
        .unwrap();
    assert_eq!((found.images, found.decisions), (38, 38));
    let correct: u64 = (0..4).map(|class| by_class.count(class, class)).sum();
    assert_eq!(correct, found.correct as u64);
    losses.push(found.loss);
    losses
}

#[test]
fn twenty_steps_follow_one_process() {
    let expected = losses(&Communicator::alone(), 5);
    for size in 2..=4 {
        for found in on_ranks(size, |rank| losses(&rank, 5)) {
            for (found, expected) in found.iter().zip(&expected) {
                let far = (found / expected - 1.0).abs();
                assert!(far < 1e-5, "{size} ranks: {found}, {expected}");
            }
        }
    }
}

#[test]
fn running_statistics_are_averaged_and_the_same_on_all_ranks() {
    let train = |rank: Communicator| {
        let dev = Cpu::seed_from_u64(1);
        let model = dev.build_module::<Normed, f32>();
        let mut trainer = Trainer::new(model, AdamConfig::adam())
            .and_then(|t| t.with_communicator(&rank))
            .unwrap();
        let report = trainer.train_epoch::<1, 8, 8, 4>(&dev, &loader(10), &mut ());
        report.unwrap();
        let found = trainer.evaluate::<1, 8, 8, 4>(&dev, &loader(10)).unwrap();
        let norm = &trainer.model.1;
        (norm.running_mean.array(), norm.running_var.array(), found)
    };
    let found = on_ranks(3, train);
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
    assert_ne!(found[0].0, [0.0; 8]);
}

#[test]
fn weights_that_differ_stop_the_run_with_the_rank() {
    let start = |rank: Communicator| {
        let dev = Cpu::seed_from_u64(if rank.rank() == 2 { 7 } else { 1 });
        let model = dev.build_module::<Net, f32>();
        let trainer = Trainer::new(model, AdamConfig::adam()).unwrap();
        trainer.with_communicator(&rank).map(drop).unwrap_err()
    };
    for err in on_ranks(3, start) {
        let text = err.to_string();
        assert!(
            text.contains("weights of rank 2 are not those of rank 0"),
            "{text}"
        );
    }

    let drift = |rank: Communicator| {
        let dev = Cpu::seed_from_u64(1);
        let model = dev.build_module::<Net, f32>();
        let mut trainer = Trainer::new(model, AdamConfig::adam())
            .and_then(|t| t.with_communicator(&rank))
            .unwrap();
        if rank.rank() == 1 {
            trainer.model.0.bias = dev.ones();
        }
        let report = trainer.train_epoch::<1, 8, 8, 4>(&dev, &loader(10), &mut ());
        report.unwrap_err().to_string()
    };
    for text in on_ranks(2, drift) {
        assert!(text.contains("after batch 0 of epoch 0"), "{text}");
        assert!(text.contains("weights of rank 1"), "{text}");
    }
}

#[test]
fn one_rank_s_error_ends_all_and_is_told() {
    let train = |rank: Communicator| {
        let dev = Cpu::seed_from_u64(1);
        let model = dev.build_module::<Net, f32>();
        let mut trainer = Trainer::new(model, AdamConfig::adam())
            .and_then(|t| t.with_communicator(&rank))
            .unwrap();
        let mut data = loader(10);
        if rank.rank() == 1 {
            // Of another shape than the network's.
            data = data.fit_to(ssprop::data::ImageShape::new(1, 9, 9)).unwrap();
        }
        let report = trainer.train_epoch::<1, 8, 8, 4>(&dev, &data, &mut ());
        // A program that does not give up is told again.
        let again = trainer.train_epoch::<1, 8, 8, 4>(&dev, &loader(10), &mut ());
        assert!(matches!(again.unwrap_err(), Error::Distributed { .. }));
        report.unwrap_err()
    };
    let found = on_ranks(3, train);
    assert!(matches!(found[1], Error::Shape { .. }), "{}", found[1]);
    for rank in [0, 2] {
        let text = found[rank].to_string();
        assert!(
            text.contains("rank 1 has ended") && text.contains("9x9"),
            "{text}"
        );
    }
}

#[test]
fn a_rank_that_is_gone_or_busy_is_named_in_time() {
    // Gone without a word.
    let begun = Instant::now();
    let found = on_ranks(3, |rank| match rank.rank() {
        1 => None,
        _ => Some(rank.sum(&mut [1.0]).unwrap_err().to_string()),
    });
    for text in found.into_iter().flatten() {
        assert!(text.contains("rank 1 has ended"), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20));

    // There, but busy.
    let begun = Instant::now();
    let found = on_ranks(2, |rank| {
        rank.set_timeout(Duration::from_millis(200));
        if rank.rank() == 1 {
            std::thread::sleep(Duration::from_secs(4));
        }
        rank.sum(&mut [1.0]).map_err(|err| err.to_string())
    });
    let text = found[0].as_ref().unwrap_err();
    assert!(text.contains("rank 1 (busy for"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(20));

    // Busy for less than that.
    let found = on_ranks(2, |rank| {
        rank.set_timeout(Duration::from_millis(300));
        if rank.rank() == 1 {
            std::thread::sleep(Duration::from_secs(1));
        }
        let mut sum = [1.0];
        rank.sum(&mut sum)
            .map(|()| sum[0])
            .map_err(|err| err.to_string())
    });
    assert_eq!(found, [Ok(2.0), Ok(2.0)]);
}

#[test]
fn ranks_at_different_calls_are_an_error() {
    let found = on_ranks(2, |rank| {
        let mut values = vec![1.0; 1 + rank.rank()];
        rank.sum(&mut values).unwrap_err().to_string()
    });
    assert!(
        found[0].contains("adds 2 numbers where this one adds 1"),
        "{}",
        found[0]
    );
}
