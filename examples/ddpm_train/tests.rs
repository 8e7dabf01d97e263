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
    let args = Args::try_parse_from(["ddpm_train"].iter().chain(flags)).unwrap();
    // As the program does: a test's own stack is small for a network that is not optimised.
    ssprop::on_threads(args.threads, || run(&args)).flatten()
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

#[test]
fn a_network_without_classes_goes_on_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| format!("--out={}", folder.path().join(name).display());
    let first = train(&[&out("first"), "--epochs=1", "--samples=0"]).unwrap();
    let of = |folder: &Path, file: &str| format!("--init={}", folder.join(file).display());
    let init = of(&first, "model.safetensors");
    // Steps so small that they change nothing.
    let flags = [
        "--classes",
        &init,
        &out("with"),
        "--epochs=1",
        "--samples=3",
    ];
    let with = train(&[&flags[..], &["--lr=1e-30"]].concat()).unwrap();
    let path = with.join("model.safetensors");
    let classes = Checkpoint::open(&path).unwrap().classes.unwrap();
    assert_eq!(classes.find("bag").unwrap(), [8]);
    let mut expected = tensors(&first.join("model.safetensors"));
    expected.insert("label_emb.weight".into(), vec![0; 10 * 64 * 4]);
    let found = tensors(&path);
    assert!(found.keys().eq(expected.keys()));
    let floats = |bytes: &[u8]| -> Vec<f32> {
        let values = bytes.as_chunks().0.iter();
        values.map(|&v| f32::from_le_bytes(v)).collect()
    };
    for (name, bytes) in &found {
        let pairs = floats(bytes).into_iter().zip(floats(&expected[name]));
        for (found, expected) in pairs {
            assert!(
                (found - expected).abs() < 1e-6,
                "{name}: {found} {expected}"
            );
        }
    }
    assert!(with.join("samples-0001.png").is_file());

    let resume = format!("--resume={}", with.join("checkpoint.safetensors").display());
    // Classes are learnt, and a run with them goes on with them only.
    let more = ["--classes", &resume, "--epochs=2", "--samples=0"];
    let done = train(&[&more[..], &["--lr=0.01"]].concat()).unwrap();
    let learnt = &tensors(&done.join("checkpoint.safetensors"))["label_emb.weight"];
    assert!(learnt.iter().any(|&byte| byte != 0));
    let err = train(&[&resume, "--epochs=3"]).unwrap_err().to_string();
    assert!(err.contains("label_emb.weight"), "{err}");

    let err = |flags: &[&str]| train(flags).unwrap_err().to_string();
    let x = &*out("x");
    let found = err(&[&init, x, "--classes", "--parameterization=v"]);
    assert!(found.starts_with("--init = "), "{found}");
    let found = err(&[&of(&first, "checkpoint.safetensors"), x, "--classes"]);
    assert!(found.contains("model.safetensors beside"), "{found}");
    let found = err(&[&of(&with, "model.safetensors"), x]);
    assert!(found.starts_with("--init = "), "{found}");
    let found = err(&["--task=celeba", "--classes", "--data=x"]);
    assert!(found.starts_with("--classes = true"), "{found}");
}

#[test]
fn weights_are_updated_as_the_flags_say() {
    let folder = tempfile::tempdir().unwrap();
    let model = |name: &str, flags: &[&str]| {
        let out = format!("--out={}", folder.path().join(name).display());
        let own = [&*out, "--epochs=1", "--samples=0"];
        let out = train(&[&own[..], flags].concat()).unwrap();
        tensors(&out.join("model.safetensors"))
    };
    let usual = model("usual", &[]);
    assert!(model("named", &["--optimizer=adamw", "--weight-decay=0.01"]) == usual);
    for (i, flags) in [
        &["--optimizer=adam"][..],
        &["--weight-decay=0.5"],
        &["--clip-norm=1e-9"],
        &["--accumulate=2"],
        &["--optimizer=sgd", "--momentum=0.9"],
    ]
    .into_iter()
    .enumerate()
    {
        assert!(model(&i.to_string(), flags) != usual, "{flags:?}");
    }
    let err = train(&["--momentum=0.9"]).unwrap_err().to_string();
    assert!(err.starts_with("--momentum = 0.9"), "{err}");
}
