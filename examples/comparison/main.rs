//! Dense training against ssProp, and against others of the same backward FLOPs: fewer epochs, fewer channels,
//! other channels kept, other schedules, dropout; with a small network or a ResNet-18 on Fashion-MNIST.
//!
//!     cargo run --example comparison -- --data FOLDER
//!     cargo run --example comparison -- --train-limit 2000 --seeds 5
//!     cargo run --example comparison -- --network half-resnet18 --arms dense,ssprop,narrower,random

mod arms;
mod networks;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use arms::{Arm, Name};
use clap::Parser;
use common::progress::Runs;
use common::sweep::{Flags, Images, Run};
use common::{args, say};
use networks::Network;
use ssprop::checkpoint::write_file;
use ssprop::nn::RunSize;
use ssprop::prelude::*;
use ssprop::run::exit_code;
use table::Done;

/// What a run leaves in its folder.
const RESULTS: [&str; 2] = ["comparison.csv", "comparison.md"];

/// Compare dense training with ssProp at the same epochs and at the same backward FLOPs
#[derive(Debug, Parser)]
struct Args {
    /// Fashion-MNIST in the IDX format: a folder [default: the bundled part of it]
    #[arg(long)]
    data: Option<PathBuf>,
    /// What is trained
    #[arg(long, value_enum, default_value = "small")]
    network: Network,
    /// How
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "dense,ssprop,shorter"
    )]
    arms: Vec<Name>,
    /// Another arm: the most important channels, on this schedule (may be given again), as
    /// "linear,drop=0,start=0.8,epochs=10" or "bar,drop=0.8,period=2"
    #[arg(long)]
    schedule: Vec<Schedule>,
    /// Epochs of the runs, but for those of the arm of fewer
    #[arg(long, default_value = "10", value_parser = args::count)]
    epochs: usize,
    /// Runs of each arm, each with a seed of its own
    #[arg(long, default_value = "3", value_parser = args::count)]
    seeds: usize,
    /// Learning rate of Adam; the paper's 0.0002 would need its 50 epochs
    #[arg(long, default_value = "0.002", value_parser = args::lr)]
    lr: f64,
    /// Let the learning rate fall to 0 over the epochs of each run, along half a cosine
    #[arg(long)]
    lr_decay: bool,
    /// Training images, the same number of each class [default: all]
    #[arg(long, value_parser = args::count)]
    train_limit: Option<usize>,
    /// Test images, the same number of each class [default: all]
    #[arg(long, value_parser = args::count)]
    test_limit: Option<usize>,
    /// Where to write comparison.csv and comparison.md [default: runs/comparison, with the first
    /// free number]
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    let args = Args::parse();
    exit_code(ssprop::on_threads(args.flags.threads, || run(&args)).flatten())
}

fn run(args: &Args) -> ssprop::Result<()> {
    let start = Instant::now();
    let claim = args
        .flags
        .folder(args.out.as_deref(), Path::new("runs/comparison"), &RESULTS)?;
    let out = claim.path();
    say!("Results go to {}.", out.display());
    let size = args.network.size();
    let images = Images::fashion_mnist(args.data.as_deref(), args.train_limit, args.test_limit)?;
    let images = images.resized(size)?;
    if args.data.is_none() {
        say!("No --data: only the bundled part of Fashion-MNIST.");
    }
    say!(
        "{:?} network, {} training images of {size}x{size}, {} test images, batches of {}, Adam at {}{}",
        args.network,
        images.train.len(),
        images.test.len(),
        args.flags.batch_size(false),
        args.lr,
        if args.lr_decay { ", falling to 0" } else { "" },
    );
    let arms = arms(args, images.train.len())?;
    for arm in &arms {
        say!(
            "{}: {} epochs, schedule {}, {:.4e} backward FLOPs",
            arm.title,
            arm.epochs,
            arm.schedule,
            arm.flops
        );
    }
    let progress = Runs::new(arms.len() * args.seeds);
    let mut runs = Vec::new();
    // The arms in turn, so that a machine that is busy for a while slows all of them.
    for seed in (args.flags.seed..).take(args.seeds) {
        for arm in &arms {
            progress.begin(format!("{}, seed {seed}", arm.title));
            runs.push(train(args, &images, arm, seed)?);
            progress.done();
            // A run that is stopped keeps what it has.
            write_file(out.join(RESULTS[0]), table::csv(&runs).as_bytes())?;
            write_file(out.join(RESULTS[1]), table::markdown(&runs).as_bytes())?;
            if let Some(Done { outcome, .. }) = runs.last() {
                progress.line(&format!(
                    "seed {seed}  {:6.2}%  {:7.1} s, backward {:7.1} s  {}",
                    100.0 * outcome.accuracy,
                    outcome.seconds,
                    outcome.backward_seconds,
                    arm.title,
                ));
            }
        }
    }
    progress.finish();
    say!("\n{}", table::markdown(&runs));
    say!("{:.0} s in all.", start.elapsed().as_secs_f64());
    Ok(())
}

fn arms(args: &Args, images: usize) -> ssprop::Result<Vec<Arm>> {
    let size = RunSize {
        images,
        batch: args.flags.batch_size(false),
        epochs: args.epochs as u64,
    };
    let named = args
        .arms
        .iter()
        .map(|&name| Arm::new(name, args.network, size));
    let scheduled = args.schedule.iter();
    let scheduled = scheduled.map(|&schedule| Arm::of_schedule(schedule, args.network, size));
    named.chain(scheduled).collect()
}

fn settings(args: &Args, arm: &Arm, seed: u64) -> ssprop::Result<Run> {
    Ok(Run {
        epochs: arm.epochs,
        batch_size: args.flags.batch_size(false),
        lr: args.lr,
        lr_schedule: match args.lr_decay {
            true => LrSchedule::cosine(arm.epochs as u64)?,
            false => LrSchedule::constant(),
        },
        schedule: arm.schedule,
        lazy: false,
        seed,
    })
}

fn train(args: &Args, images: &Images, arm: &Arm, seed: u64) -> ssprop::Result<Done> {
    let run = settings(args, arm, seed)?;
    Ok(Done {
        arm: arm.title.clone(),
        epochs: arm.epochs,
        seed,
        outcome: networks::train(args.flags.device, arm, &run, images)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_cost_what_their_runs_report() {
        let seven = "dense,ssprop,shorter,random,rotation,constant,constant-random";
        let [bar, falling] = ["bar,drop=0.8,period=2", "linear,drop=0,start=0.8,epochs=2"];
        check_costs("small", seven, &["--schedule", bar, "--schedule", falling]);
        check_costs("wide", "dense,ssprop,shorter", &["--lr-decay"]);
        check_costs("half-resnet18", "ssprop-dropout,narrower", &[]);
    }

    fn parsed(network: &str, arms: &str, flags: &[&str]) -> (Args, Images) {
        let limits = ["x", "--train-limit=60", "--test-limit=20"];
        // Batches of 20 and no fraction of one.
        let what = ["--batch-size=20", "--network", network, "--arms", arms];
        let args = limits.iter().chain(&what).chain(flags);
        let args = Args::try_parse_from(args).unwrap();
        let images = Images::fashion_mnist(None, args.train_limit, args.test_limit).unwrap();
        let images = images.resized(args.network.size()).unwrap();
        (args, images)
    }

    fn check_costs(network: &str, arms: &str, flags: &[&str]) {
        let flags = [flags, &["--epochs=2"]].concat();
        let (args, images) = parsed(network, arms, &flags);
        for arm in super::arms(&args, 60).unwrap() {
            let done = train(&args, &images, &arm, 1).unwrap().outcome;
            let off = (done.backward_flops / arm.flops - 1.0).abs();
            assert!(off < 1e-9, "{arm:?} {done:?}");
            assert!(done.accuracy.is_finite());
            assert!(done.backward_seconds > 0.0 && done.backward_seconds < done.seconds);
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn another_device_is_not_passed_over() {
        let (args, images) = parsed("small", "dense", &["--device=cuda"]);
        let arm = &arms(&args, 60).unwrap()[0];
        let err = train(&args, &images, arm, 1).unwrap_err();
        assert!(err.to_string().contains("--device = cuda"), "{err}");
    }

    #[test]
    fn learning_rates_fall_over_the_epochs_of_their_arm() {
        let (args, _) = parsed("small", "dense,shorter", &["--lr-decay", "--epochs=10"]);
        for arm in arms(&args, 60).unwrap() {
            let cosine = LrSchedule::cosine(arm.epochs as u64).unwrap();
            assert_eq!(settings(&args, &arm, 0).unwrap().lr_schedule, cosine);
        }
        let (args, _) = parsed("small", "dense", &[]);
        let arm = &arms(&args, 60).unwrap()[0];
        let constant = settings(&args, arm, 0).unwrap().lr_schedule;
        assert_eq!(constant, LrSchedule::constant());
    }
}
