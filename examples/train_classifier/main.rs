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
mod data;
mod images;
mod kept;
mod model;
mod networks;
mod optimization;
mod paper;
mod preparation;
mod run;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;
use ssprop::run::exit_code;

fn main() -> ExitCode {
    let args = args::Args::parse();
    exit_code(ssprop::on_threads(args.threads, || run::run(&args).map(drop)).flatten())
}
