//! A short run, and one that is stopped and goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::safetensors::SafeTensors;
use clap::Parser;
use ssprop::checkpoint;
use ssprop::prelude::*;
use ssprop::run::{read_records, Record};

use crate::args::Args;
use crate::run::run;
use common::ddpm::{Checkpoint, UNet};

/// Trains on a few images, with some more flags.
fn train(flags: &[&str]) -> ssprop::Result<PathBuf> {
    let own = [
        "--train-limit=6",
        "--test-limit=3",
        "--batch-size=4",
        "--timesteps=5",
        "--ema=0.5",
    ];
    let flags = own.iter().chain(flags);
    run(&Args::try_parse_from(["ddpm_train"].iter().chain(flags)).unwrap())
}

/// The tensors of a file.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, view)| (name, view.data().to_vec()))
        .collect()
}

fn records(folder: &Path) -> Vec<Record> {
    read_records(folder.join("metrics.csv")).unwrap()
}

#[test]
fn a_resumed_run_ends_as_one_that_did_not_stop() {
    let folder = tempfile::tempdir().unwrap();
    let samples = "--samples=2";
    let out = |name: &str| format!("--out={}", folder.path().join(name).display());
    let whole = train(&[&out("whole"), "--epochs=2", samples]).unwrap();
    for name in [
        "checkpoint.safetensors",
        "model.safetensors",
        "metrics.csv",
        "curves.svg",
        "samples-0001.png",
        "samples-0002.png",
    ] {
        assert!(whole.join(name).is_file(), "{name}");
    }
    let found = records(&whole);
    assert!(found[0].is_dense());
    assert_eq!(found[1].get("drop_rate"), Some(0.8));
    assert!(found[1].backward_flops() < 0.5 * found[0].backward_flops());

    let part = train(&[&out("part"), "--epochs=1", samples]).unwrap();
    let resume = format!("--resume={}", part.join("checkpoint.safetensors").display());
    // In a folder of its own, then in that of the run that goes on.
    let other = train(&[&out("other"), &resume, "--epochs=2", samples]).unwrap();
    let same = train(&[&resume, "--epochs=2", samples]).unwrap();
    assert_eq!(same, part);
    let losses = |folder| -> Vec<[Option<f64>; 2]> {
        let losses = |r: &Record| [r.get("train_loss"), r.get("test_loss")];
        records(folder).iter().map(losses).collect()
    };
    for resumed in [&other, &same] {
        for file in ["checkpoint.safetensors", "model.safetensors"] {
            assert!(
                tensors(&resumed.join(file)) == tensors(&whole.join(file)),
                "{file}"
            );
        }
        assert_eq!(losses(resumed), losses(&whole));
        let grid = |folder: &Path| std::fs::read(folder.join("samples-0002.png")).unwrap();
        assert!(grid(resumed) == grid(&whole));
    }
    assert!(other.join("curves.svg").is_file() && !other.join("samples-0001.png").exists());

    // Stopped between the checkpoint and its grid: before the last epoch, and after it.
    let grid = |folder: &Path, epoch| std::fs::read(folder.join(format!("samples-000{epoch}.png")));
    let first = train(&[&out("first"), "--epochs=1", "--samples=0"]).unwrap();
    let resume_first = format!(
        "--resume={}",
        first.join("checkpoint.safetensors").display()
    );
    train(&[&resume_first, "--epochs=2", samples]).unwrap();
    std::fs::remove_file(first.join("samples-0002.png")).unwrap();
    train(&[&resume_first, "--epochs=2", samples]).unwrap();
    for epoch in [1, 2] {
        assert!(grid(&first, epoch).unwrap() == grid(&whole, epoch).unwrap());
    }

    let err = train(&[&resume, "--epochs=2", "--seed=1"]).unwrap_err();
    assert!(err.to_string().contains("seed = 0, now 1"), "{err}");
    let err = train(&[&out("whole"), "--epochs=2", samples])
        .unwrap_err()
        .to_string();
    assert!(err.contains("--overwrite"), "{err}");
}

#[test]
fn the_model_is_the_moving_average_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let out = format!("--out={}", folder.path().display());
    let out = train(&[&out, "--epochs=1", "--samples=0"]).unwrap();
    let path = out.join("model.safetensors");
    let model = Checkpoint::open(&path).unwrap();
    assert_eq!((model.unet, model.process.timesteps), (UNet::Mnist, 5));
    assert_eq!(
        (model.epochs(), model.data()),
        (Some("1"), Some("fashion-mnist"))
    );
    let run = Checkpoint::open(&out.join("checkpoint.safetensors")).unwrap();
    assert_eq!((run.epochs(), run.data()), (model.epochs(), model.data()));
    assert!(path.metadata().unwrap().len() < 5_000_000);

    let all = tensors(&out.join("checkpoint.safetensors"));
    let averages = all
        .iter()
        .filter_map(|(name, data)| Some((name.strip_prefix("ema.")?, data)));
    let found = tensors(&path);
    assert!(averages.eq(found.iter().map(|(name, data)| (name.as_str(), data))));
    let mut net = Cpu::default().build_module::<MnistUNet, f32>();
    checkpoint::load(&path, &mut net).unwrap();
}
