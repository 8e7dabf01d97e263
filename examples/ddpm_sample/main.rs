//! Draws images of clothes from noise, with the U-Net that comes with the crate or with one that
//! `ddpm_train` has trained.
//!
//!     cargo run --example ddpm_sample
//!     cargo run --example ddpm_sample -- --class bag --guidance 3
//!     cargo run --example ddpm_sample -- --sampler ddim --steps 20 --trajectory trajectory.png
//!     cargo run --example ddpm_sample -- --count 16 --animation from_noise.png
//!     cargo run --example ddpm_sample -- --checkpoint runs/ddpm-celeba/model.safetensors --count 16
//!
//! The same seed gives the same picture, whatever the number of threads. With the feature `cuda` and
//! `--device cuda` the network runs on a GPU.

mod args;
#[cfg(test)]
mod tests;
mod trajectory;

use std::process::ExitCode;
use std::time::Instant;

use args::Args;
use clap::Parser;
use common::ddpm::{describe, Checkpoint, SAMPLE_BATCH};
use common::grid::{write_animation, write_grid};
use common::on_device;
use common::progress::Sampling;
use common::say;
use ssprop::diffusion::{SampleRun, SampleStep};
use ssprop::distributed::Communicator;
use ssprop::run::exit_code;
use ssprop::run::prepare_file;
use trajectory::{Shown, Trajectory, FRAMES, MOMENTS};

/// Images of a strip.
const ROWS: usize = 8;

fn main() -> ExitCode {
    let args = Args::parse();
    exit_code(ssprop::on_threads(args.threads, || run(&args)).flatten())
}

fn run(args: &Args) -> ssprop::Result<()> {
    // Everything that can be wrong with the flags, before anything that takes time.
    let files = args.files()?;
    let checkpoint = Checkpoint::open(&args.checkpoint())?;
    let process = &checkpoint.process;
    let sampler = args.sampler.with(args.steps, args.eta, process)?;
    let guidance = checkpoint.guidance(args.class.as_deref(), args.guidance)?;
    let (count, columns) = args.grid(guidance.as_ref());
    for file in &files {
        prepare_file(file)?;
    }
    let shape = checkpoint.unet.shape();
    say!("{checkpoint}");
    let mut how = describe(&sampler, process);
    if let Some(guidance) = &guidance {
        how += &format!(", guidance {}", guidance.scale);
    }
    say!(
        "Drawing {} images of {shape} ({how}, seed {})",
        count,
        args.seed
    );

    let run = SampleRun {
        seed: args.seed,
        count,
        batch: SAMPLE_BATCH.min(count),
    };
    let steps = sampler.timesteps(&process.diffusion()?)?.len();
    let len = shape.channels * shape.height * shape.width;
    let strip = |shown| Trajectory::new(shown, ROWS.min(count), steps, len, MOMENTS);
    let all = || Trajectory::new(Shown::Images, count, steps, len, FRAMES);
    let mut animation = args.animation.as_ref().map(|file| (file, all()));
    let mut strips = Vec::new();
    strips.extend(args.trajectory.iter().map(|f| (f, strip(Shown::Images))));
    strips.extend(
        args.predictions
            .iter()
            .map(|f| (f, strip(Shown::Predictions))),
    );
    let progress = Sampling::new(run, steps);
    let start = Instant::now();
    let mut observer = |done: &SampleStep<'_>| {
        progress.step(done);
        for (_, strip) in strips.iter_mut().chain(&mut animation) {
            strip.step(done);
        }
    };
    let samples = on_device!(args.device, 0, |dev| {
        let alone = &Communicator::alone();
        checkpoint.sample(alone, &dev, &sampler, guidance.clone(), run, &mut observer)
    })?;
    progress.finish();
    say!("Drawn in {:.1} s", start.elapsed().as_secs_f64());

    let shape = (shape.channels, shape.height, shape.width);
    write_grid(&args.out, &samples, shape, columns, args.scale)?;
    for (file, strip) in &strips {
        write_grid(file, strip.values(), shape, strip.columns(), args.scale)?;
    }
    if let Some((file, frames)) = &animation {
        write_animation(file, &frames.frames(), shape, columns, args.scale)?;
    }
    for file in files {
        say!("Written to {}", file.display());
    }
    Ok(())
}
