//! From which drop rate on does a sparse backward pass pay? For each convolution of ResNet-18, in
//! FLOPs (Eq. 10 of arXiv 2408.12561) and in time, as measured on this machine.
//!
//!     cargo run --example drop_rate_bounds

use std::process::ExitCode;

use clap::Parser;
use common::say;
use ssprop::models::modules::ResNet18;
use ssprop::nn::{time_bounds, ModelCost};
use ssprop::prelude::*;
use ssprop::run::exit_code;

#[path = "common/args.rs"]
#[allow(dead_code)]
mod args;

/// Measure the drop rates above which sparse backward passes of ResNet-18's layers are faster
#[derive(Debug, Parser)]
struct Args {
    /// Images in a batch
    #[arg(long, default_value = "32", value_parser = args::count)]
    batch_size: usize,
    /// Threads [default: one a core]
    #[arg(long, value_parser = args::threads)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    exit_code(ssprop::on_threads(args.threads, || run(args.batch_size)).flatten())
}

fn run(batch: usize) -> ssprop::Result<()> {
    let cost = ModelCost::of::<ResNet18<10, 3, f32, Cpu>>([3, 32, 32])?;
    say!("ResNet-18, {batch} images of 3x32x32: a sparse backward pass is cheaper above a drop");
    say!("rate of\n");
    say!("| layer | kernel | channels | image | FLOPs (Eq. 10) | time |");
    say!("|---|---|---|---|---:|---:|");
    for bound in time_bounds(&cost, batch)? {
        let (shape, k) = (bound.shape, bound.shape.op().kernel);
        let time = match bound.time {
            Some(rate) => format!("{:.0}%", 100.0 * rate.rate()),
            None => "never".to_owned(),
        };
        say!(
            "| {} | {k}x{k}, stride {} | {} to {} | {}x{} | {:.3}% | {time} |",
            bound.path,
            shape.op().stride,
            shape.c_in(),
            shape.c_out(),
            shape.input()[0],
            shape.input()[1],
            100.0 * bound.flops,
        );
    }
    Ok(())
}
