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
mod figure;
mod history;
mod run;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use args::Args;
use clap::Parser;

fn main() -> ExitCode {
    let args = Args::parse();
    match ssprop::on_threads(args.threads, || run::run(&args)).flatten() {
        Ok(_) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err}");
            ExitCode::FAILURE
        }
    }
}
