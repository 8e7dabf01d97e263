//! Trains the U-Net of a denoising diffusion model, dense and sparse epochs in turn, and draws
//! samples on the way.
//!
//!     cargo run --example ddpm_train
//!     cargo run --example ddpm_train -- --data FOLDER --epochs 10
//!     cargo run --example ddpm_train -- --task celeba --data FOLDER --batch-size 16
//!
//! The folder of the results has the network that draws the samples, `model.safetensors`, for
//! `ddpm_sample` and `fid`; and all that training goes on from, `checkpoint.safetensors`, for
//! `--resume`.

mod args;
mod init;
mod run;
mod teaching;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use args::Args;
use clap::Parser;
use ssprop::run::exit_code;

fn main() -> ExitCode {
    let args = Args::parse();
    exit_code(ssprop::on_threads(args.threads, || run::run(&args)).flatten())
}
