//! Short runs with a network that has not been trained.

use std::path::Path;

use clap::Parser;
use ssprop::checkpoint::{self, Metadata};
use ssprop::diffusion::{BetaSchedule, DiffusionTrainer, Parameterization, SampleRun, Sampler};
use ssprop::models::modules;
use ssprop::prelude::*;

use crate::args::Args;
use common::ddpm::{Checkpoint, Classes, Process, UNet, CLASSES};

const STEPS: usize = 12;

fn metadata() -> Metadata {
    let pairs = [
        ("model", UNet::Mnist.name()),
        ("data", "fashion-mnist"),
        ("epochs", "3"),
    ];
    let mut metadata: Metadata = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let process = Process {
        timesteps: STEPS,
        beta_schedule: BetaSchedule::Linear,
        parameterization: Parameterization::V,
    };
    process.write(&mut metadata);
    metadata
}

fn network(seed: u64) -> modules::MnistUNet<1, f32, Cpu> {
    Cpu::seed_from_u64(seed).build_module::<MnistUNet, f32>()
}

fn write(path: &Path, seed: u64) {
    checkpoint::save(path, &network(seed), &metadata()).unwrap();
}

/// Draws into `folder`, with the checkpoint in it, on some threads.
fn run(folder: &Path, flags: &[&str], threads: usize) -> ssprop::Result<()> {
    let at = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    let own = [
        at("checkpoint", "model.safetensors"),
        at("out", "pictures/samples.png"),
    ];
    let flags = own.iter().map(String::as_str).chain(flags.iter().copied());
    let args = Args::try_parse_from(["ddpm_sample"].into_iter().chain(flags)).unwrap();
    ssprop::on_threads(Some(threads), || crate::run(&args)).flatten()
}

#[test]
fn the_picture_follows_from_the_seed_and_not_from_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("model.safetensors"), 0);
    let trajectory = format!("--trajectory={}", folder.join("way/x.png").display());
    let predictions = format!("--predictions={}", folder.join("x0.png").display());
    let animation = format!("--animation={}", folder.join("way/a.png").display());
    let draw = |threads, flags: &[&str]| {
        let files = [&*trajectory, &predictions, &animation];
        let own = ["--count=3", "--columns=2"];
        run(folder, &[&own[..], &files, flags].concat(), threads).unwrap();
        ["pictures/samples.png", "way/x.png", "x0.png", "way/a.png"]
            .map(|name| std::fs::read(folder.join(name)).unwrap())
    };
    let one = draw(1, &[]);
    assert!(draw(3, &[]) == one);
    assert!(draw(1, &["--seed=1"])[0] != one[0]);
    let ddim = draw(1, &["--sampler=ddim", "--steps=4"]);
    assert!(ddim[0] != one[0]);
    assert!(draw(3, &["--sampler=ddim", "--steps=4"]) == ddim);

    let size = |bytes: &[u8]| {
        let picture = image::load_from_memory(bytes).unwrap();
        (picture.width(), picture.height())
    };
    // Images of 32 pixels, 2 apart, all pixels doubled.
    let grid = |columns: u32, rows: u32| (2 * (34 * columns + 2), 2 * (34 * rows + 2));
    assert_eq!(
        one.each_ref().map(|p| size(p)),
        [grid(2, 2), grid(10, 3), grid(10, 3), grid(2, 2)]
    );
    assert_eq!(
        ddim.each_ref().map(|p| size(p)),
        [grid(2, 2), grid(5, 3), grid(4, 3), grid(2, 2)]
    );
}

/// The network of `seed`, told classes; what it is told it has not learnt.
fn write_with_classes(path: &Path, seed: u64) {
    let dev = Cpu::seed_from_u64(seed);
    let mut net = dev.build_module::<ClassConditional<MnistUNet, CLASSES, 64>, f32>();
    net.unet = network(seed);
    net.label_emb = dev.sample_normal();
    let mut metadata = metadata();
    let (data, _) = ssprop::data::bundled().unwrap();
    Classes::new(data.class_names())
        .unwrap()
        .write(&mut metadata);
    checkpoint::save(path, &net, &metadata).unwrap();
}

#[test]
fn classes_are_drawn_and_without_guidance_what_the_u_net_alone_draws() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join("model.safetensors");
    let draw = |flags: &[&str]| {
        let own = ["--sampler=ddim", "--steps=2"];
        run(folder, &[&own[..], flags].concat(), 1).unwrap();
        std::fs::read(folder.join("pictures/samples.png")).unwrap()
    };
    write(&path, 0);
    let six = &["--count=6", "--columns=3"];
    let alone = draw(six);
    let unasked = draw(&["--count=8"]);
    write_with_classes(&path, 0);
    let with = |flags: &[&str]| draw(&[&six[..], flags].concat());
    assert!(with(&["--guidance=0"]) == alone);
    let bags = with(&["--class=bag"]);
    assert!(bags != alone && with(&["--class=8", "--guidance=1"]) == bags);
    assert!(with(&["--class=bag", "--guidance=3"]) != bags);
    assert!(with(&["--class=bag,coat"]) != bags);

    // All classes in a row, in as many rows as there would be of eight.
    let size = |bytes: &[u8]| {
        let picture = image::load_from_memory(bytes).unwrap();
        (picture.width(), picture.height())
    };
    let grid = |columns: u32, rows: u32| (2 * (34 * columns + 2), 2 * (34 * rows + 2));
    assert_eq!(size(&draw(&[])), grid(10, 8));
    assert_eq!(size(&draw(&["--class=bag,coat"])), grid(2, 8));
    assert_eq!(size(&draw(&["--class=bag", "--count=16"])), grid(8, 2));
    assert_eq!(size(&unasked), grid(8, 1));
}

#[test]
fn samples_do_not_depend_on_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, 0);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let draw = |batch| {
        let sampler = Sampler::Ddim { steps: 3, eta: 0.5 };
        let run = SampleRun {
            seed: 0,
            count: 5,
            batch,
        };
        let dev = Cpu::default();
        let samples =
            checkpoint.sample(&Default::default(), &dev, &sampler, None, run, &mut |_| ());
        samples
            .unwrap()
            .iter()
            .map(|x| x.to_bits())
            .collect::<Vec<_>>()
    };
    let all = draw(5);
    assert_eq!(all.len(), 5 * 1024);
    assert!(draw(1) == all && draw(2) == all);
}

#[test]
fn of_a_training_run_the_moving_average_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join("model.safetensors");
    let draw = || {
        run(folder, &["--count=1", "--sampler=ddim", "--steps=2"], 1).unwrap();
        std::fs::read(folder.join("pictures/samples.png")).unwrap()
    };
    write(&path, 1);
    let other = draw();
    write(&path, 0);
    let expected = draw();
    assert!(expected != other);

    let process = Checkpoint::open(&path).unwrap().process;
    let train = |ema: bool| {
        let diffusion = process.diffusion().unwrap();
        let trainer = DiffusionTrainer::new(network(0), AdamConfig::adamw(), diffusion, 0).unwrap();
        let mut trainer = match ema {
            true => trainer.with_ema(0.9).unwrap(),
            false => trainer,
        };
        // The network moves on, its average stays.
        write(&path, 1);
        checkpoint::load(&path, trainer.model_mut()).unwrap();
        trainer.save(&path, &metadata()).unwrap();
    };
    train(true);
    assert!(draw() == expected);
    train(false);
    assert!(draw() == other);
}

#[test]
fn what_cannot_be_drawn_with_is_named_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join("model.safetensors");
    let err = |flags: &[&str]| {
        let err = run(folder, flags, 1).unwrap_err().to_string();
        assert!(!folder.join("pictures/samples.png").exists());
        err
    };
    let found = err(&[]);
    assert!(found.contains("model.safetensors: cannot read"), "{found}");

    write(&path, 0);
    let whole = std::fs::read(&path).unwrap();
    let found = err(&["--steps=5"]);
    assert!(found.contains("--steps = 5 of 12"), "{found}");
    let found = err(&["--sampler=ddim", "--steps=13"]);
    assert!(found.contains("steps = 13 of 12"), "{found}");
    let found = err(&["--eta=0.5"]);
    assert!(found.contains("--eta = 0.5"), "{found}");
    let found = err(&["--class=bag"]);
    assert!(
        found.starts_with("--class = bag") && found.contains("without classes"),
        "{found}"
    );
    let found = err(&["--guidance=2"]);
    assert!(found.starts_with("--guidance = 2"), "{found}");
    write_with_classes(&path, 0);
    let found = err(&["--class=bag,hat"]);
    assert!(
        found.contains("\"hat\"") && found.contains("8 Bag, 9 Ankle boot"),
        "{found}"
    );
    write(&path, 0);
    let trajectory = format!("--trajectory={}", path.join("x.png").display());
    let found = err(&[&trajectory]);
    assert!(
        found.contains("model.safetensors: cannot create"),
        "{found}"
    );

    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let found = err(&[]);
    assert!(found.contains("damaged or cut off"), "{found}");

    let features = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../data/fid_features_fashion.safetensors"
    );
    std::fs::copy(features, &path).unwrap();
    let found = err(&[]);
    assert!(
        found.contains("`model` = Cnn") && found.contains("unet-mnist"),
        "{found}"
    );

    // The names fit, the tensors do not.
    let other = Cpu::default().build_module::<SparseConv2D<1, 2, 3>, f32>();
    checkpoint::save(&path, &other, &metadata()).unwrap();
    let found = err(&[]);
    assert!(
        found.contains("model.safetensors: none of its tensors"),
        "{found}"
    );

    // A training that came to nothing.
    let mut spoilt = network(0);
    let mut weights = spoilt.out.0.weight.as_vec();
    weights[3] = f32::NAN;
    spoilt.out.0.weight.copy_from(&weights);
    checkpoint::save(&path, &spoilt, &metadata()).unwrap();
    let found = err(&[]);
    assert!(
        found.contains("model.safetensors: `out.0.weight`: element 3 is NaN"),
        "{found}"
    );
}
