//! A run of several ranks: one folder, one set of records, and resumed with any number of ranks.

use std::path::Path;

use ssprop::data::BatchLoader;
use ssprop::distributed::Communicator;
use ssprop::prelude::*;
use ssprop::run::{Run, RunConfig, RunOptions};
use ssprop::Result;

use crate::{images, on_ranks, Net};

/// Trains up to `epochs` epochs, and returns each epoch's training loss.
fn train(rank: &Communicator, out: &Path, resume: bool, epochs: u64) -> Result<Vec<f64>> {
    let dev = Cpu::seed_from_u64(if resume { 99 } else { 1 });
    let loader = BatchLoader::new(&images(38), 10)?.shuffle(2);
    let mut trainer = Trainer::new(dev.build_module::<Net, f32>(), AdamConfig::adam())?
        .with_schedule(Schedule::alternating(DropRate::new(0.75)?))?;
    let options = RunOptions {
        out: Some(out.to_owned()),
        resume: resume.then(|| out.to_owned()),
        ..RunOptions::default()
    };
    let config = RunConfig::new("ranks")
        .fixed("batch", 10)
        .keep_best_by("test_accuracy");
    let mut run = Run::start_on(rank, "unused", options, config)?;
    run.resume(&mut trainer)?;
    let mut trainer = trainer.with_communicator(rank)?;
    while let Some(epoch) = run.train(&mut trainer, epochs, |trainer, observer| {
        trainer.train_part::<1, 8, 8, 4>(&dev, &loader, observer)
    })? {
        let found = trainer.evaluate::<1, 8, 8, 4>(&dev, &loader)?;
        run.record(&trainer, &epoch, &[("test_accuracy", found.accuracy())])?;
    }
    run.finish()?;
    assert_eq!(run.folder(), out);
    let losses = run.records().iter().filter_map(|r| r.get("train_loss"));
    Ok(losses.collect())
}

/// The smaller part of two losses' difference.
fn same(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let far = (found / expected - 1.0).abs();
        // Each rank's batch norms normalise by its own images.
        assert!(far < 0.05, "{found}, {expected}");
    }
}

#[test]
fn one_folder_of_one_rank_and_resumed_with_any_number() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let whole = on_ranks(2, |rank| train(&rank, &out, false, 4).unwrap());
    assert_eq!(whole[0], whole[1]);
    let names: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let events = names
        .iter()
        .filter(|name| name.contains("tfevents"))
        .count();
    assert_eq!(events, 1, "{names:?}");
    let metrics = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    assert_eq!(metrics.lines().count(), 5, "{metrics}");

    for ranks in [1, 2, 3] {
        let out = folder.path().join(format!("resumed by {ranks}"));
        let first = on_ranks(2, |rank| train(&rank, &out, false, 2).unwrap());
        assert_eq!(first[0], whole[0][..2]);
        let rest = on_ranks(ranks, |rank| train(&rank, &out, true, 4).unwrap());
        assert!(rest.iter().all(|losses| *losses == rest[0]));
        assert_eq!(rest[0][..2], whole[0][..2]);
        match ranks {
            2 => assert_eq!(rest[0], whole[0]),
            _ => same(&rest[0], &whole[0]),
        }
    }
}

#[test]
fn what_the_first_rank_cannot_do_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    on_ranks(2, |rank| train(&rank, &out, false, 1).unwrap());
    // It has results of an earlier run.
    let found = on_ranks(2, |rank| {
        train(&rank, &out, false, 1).unwrap_err().to_string()
    });
    assert!(found[0].contains("earlier run's results"), "{}", found[0]);
    assert!(found[1].contains("rank 0 has ended"), "{}", found[1]);
    assert!(found[1].contains("earlier run's results"), "{}", found[1]);

    // A checkpoint that is cut off, and the one before it too.
    for name in ["checkpoint.safetensors", "checkpoint.previous.safetensors"] {
        std::fs::write(out.join(name), "x").unwrap();
    }
    let found = on_ranks(2, |rank| {
        train(&rank, &out, true, 2).unwrap_err().to_string()
    });
    assert!(found[0].contains("checkpoint.safetensors"), "{}", found[0]);
    assert!(found[1].contains("checkpoint.safetensors"), "{}", found[1]);
}
