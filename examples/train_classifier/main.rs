//! Trains the paper's classifiers on the paper's data sets, densely or with a sparse backward pass,
//! with its hyperparameters unless told otherwise.
//!
//!     cargo run --example train_classifier -- --model cnn --layers 2 --epochs 4
//!     cargo run --example train_classifier -- --task cifar10 --data cifar-10-binary.tar.gz
//!
//! A fifth of the training images is for validation; the network of the best epoch on them is kept,
//! and tested at the end.

mod any_size;
mod args;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod kept;
mod networks;
mod paper;
mod run;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;
use ssprop::Error;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let threads = match args.threads {
        Some(threads) => rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(Error::device),
        None => Ok(()),
    };
    match threads.and_then(|()| run::run(&args)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err}");
            ExitCode::FAILURE
        }
    }
}
