//! ssprop's side of `benches/distributed/run.sh`: training steps, as one rank or several.
//!
//! Started by `hosts.sh RATE`, by `mpirun`, or by itself. Each rank has 32 images a step of its own. Rank 0
//! prints for each network, dense and sparse (80% dropped), the median of the steps after the warm-up, the
//! bytes that it sent in one, and how long it waited in one for the other ranks.

use std::process::ExitCode;

use clap::Parser;
use common::say;
use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::diffusion::{BetaSchedule, Diffusion, DiffusionTrainer};
use ssprop::distributed::Communicator;
use ssprop::prelude::*;

/// Images of a rank.
const BATCH: usize = 32;

/// Time training steps on several ranks
#[derive(Debug, Parser)]
struct Args {
    /// Timed steps
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Steps before them
    #[arg(long, default_value_t = 3)]
    warm_up: usize,
    /// Threads of a rank
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// The milliseconds of each step.
#[derive(Default)]
struct Times(Vec<f64>);

impl Observer for Times {
    fn batch(&mut self, report: &BatchReport) {
        let seconds = report.seconds;
        self.0
            .push(1e3 * (seconds.forward + seconds.backward + seconds.optimizer));
    }
}

fn loader(shape: ImageShape, batch: usize, steps: usize) -> ssprop::Result<BatchLoader> {
    let images = batch * steps;
    let len = shape.channels * shape.height * shape.width;
    let pixels = (0..images * len).map(|i| (i * i / 7 % 251) as u8);
    let labels = (0..images).map(|i| (i % 10) as u16);
    let data = ImageDataset::new(pixels.collect(), labels.collect(), shape, 10)?;
    BatchLoader::new(&data, batch)
}

/// Trains `warm_up` and then `steps` steps by `train`, and prints what they took.
fn time(
    rank: &Communicator,
    args: &Args,
    name: &str,
    mut train: impl FnMut(usize, &mut Times) -> ssprop::Result<()>,
) -> ssprop::Result<()> {
    train(args.warm_up, &mut Times::default())?;
    let (before, mut times) = (rank.traffic().bytes, Times::default());
    ssprop::profile::start();
    train(args.steps, &mut times)?;
    let spent = ssprop::profile::stop();
    let waited = |operation: &str| {
        let waits = spent.iter().filter(|spent| spent.operation == operation);
        let waited = waits.fold(0.0, |sum, spent| sum + spent.time.as_secs_f64());
        1e3 * waited / args.steps.max(1) as f64
    };
    let mut times = times.0;
    times.sort_by(f64::total_cmp);
    let steps = args.steps.max(1) as f64;
    let bytes = (rank.traffic().bytes - before) as f64 / steps;
    say!(
        "ssprop {name}: {:.1} ms ({:.1} to {:.1}), {:.2} MB; waited for gradients {:.1} ms, for importance {:.1} ms",
        times[times.len() / 2],
        times[0],
        times[times.len() - 1],
        bytes / 1e6,
        waited("exchange of gradients"),
        waited("exchange of importance"),
    );
    Ok(())
}

fn run(args: &Args) -> ssprop::Result<()> {
    let rank = Communicator::from_environment()?;
    let batch = BATCH * rank.size();
    let dev = Cpu::seed_from_u64(0);
    for (mode, rate) in [("dense", 0.0), ("sparse", 0.8)] {
        let schedule = Schedule::constant(DropRate::new(rate)?);
        let net = dev.build_module::<ResNet18<10>, f32>();
        let mut trainer = Trainer::new(net, AdamConfig::adam())?
            .with_schedule(schedule)?
            .with_communicator(&rank)?;
        time(
            &rank,
            args,
            &format!("step {BATCH} {mode}"),
            |steps, times| {
                let loader = loader(ImageShape::new(3, 32, 32), batch, steps)?;
                trainer
                    .train_epoch::<3, 32, 32, 10>(&dev, &loader, times)
                    .map(drop)
            },
        )?;
        drop(trainer);
        ssprop::free_buffers();

        let net = dev.build_module::<MnistUNet, f32>();
        let diffusion = Diffusion::new(BetaSchedule::Cosine, 200)?;
        let mut trainer = DiffusionTrainer::new(net, AdamConfig::adamw(), diffusion, 0)?
            .with_schedule(schedule)?
            .with_communicator(&rank)?;
        time(
            &rank,
            args,
            &format!("unet {BATCH} {mode}"),
            |steps, times| {
                let loader = loader(ImageShape::new(1, 32, 32), batch, steps)?;
                trainer
                    .train_epoch::<1, 32, 32>(&dev, &loader, times)
                    .map(drop)
            },
        )?;
        ssprop::free_buffers();
    }
    Ok(())
}

fn main() -> ExitCode {
    let args = Args::parse();
    ssprop::run::exit_code(ssprop::on_threads(Some(args.threads), || run(&args)).flatten())
}
