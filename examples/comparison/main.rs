//! Dense training against ssProp, and against dense training for as many epochs as cost the same
//! backward FLOPs, with a small network on Fashion-MNIST.
//!
//!     cargo run --example comparison -- --data FOLDER
//!     cargo run --example comparison -- --train-limit 2000 --seeds 5

mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use common::progress::Runs;
use common::say;
use common::sweep::{Flags, Images, Run};
use common::{args, small};
use ssprop::checkpoint::write_file;
use ssprop::nn::{ModelCost, RunSize};
use ssprop::prelude::*;
use ssprop::run::exit_code;
use table::Done;

/// What a run leaves in its folder.
const RESULTS: [&str; 2] = ["comparison.csv", "comparison.md"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Width {
    Small,
    Wide,
}

/// Compare dense training with ssProp at the same epochs and at the same backward FLOPs
#[derive(Debug, Parser)]
struct Args {
    /// Fashion-MNIST in the IDX format: a folder [default: the bundled part of it]
    #[arg(long)]
    data: Option<PathBuf>,
    /// The network's convolutions have 16, 32 and 32 channels, or 64, 128 and 128
    #[arg(long, value_enum, default_value = "small")]
    width: Width,
    /// Epochs of the dense runs and of ssProp's
    #[arg(long, default_value = "10", value_parser = args::count)]
    epochs: usize,
    /// Runs of each arm, each with a seed of its own
    #[arg(long, default_value = "3", value_parser = args::count)]
    seeds: usize,
    /// Learning rate of Adam; the paper's 0.0002 would need its 50 epochs
    #[arg(long, default_value = "0.002", value_parser = args::lr)]
    lr: f64,
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

/// Runs that differ by their seed only.
#[derive(Clone, Copy, Debug)]
struct Arm {
    name: &'static str,
    epochs: usize,
    schedule: Schedule,
    /// Backward FLOPs of a run.
    flops: f64,
}

/// Whole dense epochs whose FLOPs come nearest to `scheduled`, at least one; `dense` are those of
/// `epochs` dense epochs.
fn same_flops_epochs(epochs: usize, scheduled: f64, dense: f64) -> usize {
    ((epochs as f64 * scheduled / dense).round() as usize).max(1)
}

fn arms(width: Width, epochs: usize, images: usize, batch: usize) -> ssprop::Result<[Arm; 3]> {
    let size = RunSize {
        images,
        batch,
        epochs: epochs as u64,
    };
    let schedule = Schedule::paper();
    let cost = match width {
        Width::Small => ModelCost::of::<small::Built>([1, 28, 28])?,
        Width::Wide => ModelCost::of::<small::BuiltWide>([1, 28, 28])?,
    };
    let total = cost.on_schedule(&schedule.into(), size)?.total;
    let fewer = same_flops_epochs(epochs, total.scheduled, total.dense);
    let arm = |name, epochs, schedule, flops| Arm {
        name,
        epochs,
        schedule,
        flops,
    };
    let shorter = total.dense * fewer as f64 / epochs as f64;
    Ok([
        arm("dense", epochs, Schedule::DENSE, total.dense),
        arm("ssProp", epochs, schedule, total.scheduled),
        arm("dense at ssProp's FLOPs", fewer, Schedule::DENSE, shorter),
    ])
}

fn run(args: &Args) -> ssprop::Result<()> {
    let start = Instant::now();
    let claim = args
        .flags
        .folder(args.out.as_deref(), Path::new("runs/comparison"), &RESULTS)?;
    let out = claim.path();
    say!("Results go to {}.", out.display());
    let images = Images::fashion_mnist(args.data.as_deref(), args.train_limit, args.test_limit)?;
    if args.data.is_none() {
        say!("No --data: only the bundled part of Fashion-MNIST.");
    }
    say!(
        "{:?} network, {} training images, {} test images, batches of {}, Adam at {}",
        args.width,
        images.train.len(),
        images.test.len(),
        args.flags.batch_size(false),
        args.lr,
    );
    let arms = arms(
        args.width,
        args.epochs,
        images.train.len(),
        args.flags.batch_size(false),
    )?;
    for arm in &arms {
        say!(
            "{}: {} epochs, schedule {}, {:.4e} backward FLOPs",
            arm.name,
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
            progress.begin(format!("{}, seed {seed}", arm.name));
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
                    arm.name,
                ));
            }
        }
    }
    progress.finish();
    say!("\n{}", table::markdown(&runs));
    say!("{:.0} s in all.", start.elapsed().as_secs_f64());
    Ok(())
}

fn train(args: &Args, images: &Images, arm: &Arm, seed: u64) -> ssprop::Result<Done> {
    let run = Run {
        epochs: arm.epochs,
        batch_size: args.flags.batch_size(false),
        lr: args.lr,
        schedule: arm.schedule,
        lazy: false,
        seed,
    };
    let dev = &Cpu::seed_from_u64(seed);
    Ok(Done {
        arm: arm.name,
        epochs: arm.epochs,
        seed,
        outcome: match args.width {
            Width::Small => {
                run.outcome::<_, _, 1, 28, 28, 10>(images, dev, small::build::<small::Net, _>(dev))?
            }
            Width::Wide => run.outcome::<_, _, 1, 28, 28, 10>(
                images,
                dev,
                small::build::<small::Wide, _>(dev),
            )?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_of_the_same_flops_are_whole_and_at_least_one() {
        assert_eq!(same_flops_epochs(10, 62.0, 100.0), 6);
        assert_eq!(same_flops_epochs(10, 66.0, 100.0), 7);
        assert_eq!(same_flops_epochs(1, 0.2, 1.0), 1);
    }

    #[test]
    fn arms_cost_what_their_runs_report() {
        for width in ["small", "wide"] {
            check_costs(width);
        }
    }

    fn check_costs(width: &str) {
        let args = [
            "x",
            "--train-limit=60",
            "--test-limit=20",
            "--epochs=2",
            "--width",
            width,
        ];
        let args = Args::try_parse_from(args).unwrap();
        let images = Images::fashion_mnist(None, args.train_limit, args.test_limit).unwrap();
        // Batches of 20 and no fraction of one.
        let args = Args {
            flags: Flags {
                batch_size: Some(20),
                ..args.flags.clone()
            },
            ..args
        };
        let arms = arms(args.width, args.epochs, 60, 20).unwrap();
        assert_eq!(arms[0].epochs, arms[1].epochs);
        assert!(arms[1].flops < 0.8 * arms[0].flops);
        for arm in &arms {
            let done = train(&args, &images, arm, 1).unwrap().outcome;
            let off = (done.backward_flops / arm.flops - 1.0).abs();
            assert!(off < 1e-9, "{arm:?} {done:?}");
            assert!(done.accuracy.is_finite());
            assert!(done.backward_seconds > 0.0 && done.backward_seconds < done.seconds);
        }
    }
}
