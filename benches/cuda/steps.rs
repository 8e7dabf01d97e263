//! The side of `benches/cuda/run.sh` that runs this crate: training steps on the first CUDA device.
//!
//! Prints a line that says what runs; then, for each line `NETWORK BATCH MODE` on its standard input, one
//! line with the milliseconds of a step (forward, backward, optimizer; the device has finished before and
//! after). Networks are `resnet18`, `resnet50` and `unet`; modes `dense` and `sparse` (80% dropped), each
//! also with `-tf32` behind it. An unknown line is answered `unknown`.

#[path = "../common/step.rs"]
mod step;
#[path = "../common/unet.rs"]
mod unet;

use std::io::{stdin, stdout, BufRead, Write};
use std::time::Instant;

use dfdx::tensor::{Cuda, Synchronize};
use ssprop::prelude::{DropRate, ResNet18, ResNet50};
use ssprop::Tf32;
use step::{Net, Step};
use unet::UNetStep;

/// A step, again and again.
trait TrainingStep {
    fn run(&mut self);
}

macro_rules! training_step {
    ([$($generics:tt)*] $step:ty) => {
        impl<$($generics)*> TrainingStep for $step {
            fn run(&mut self) {
                let loss = self.forward();
                self.backward(loss);
                self.update();
            }
        }
    };
}
training_step!([M: Net<Cuda>] Step<M, Cuda>);
training_step!([] UNetStep<Cuda>);

fn make(dev: &Cuda, case: &str) -> Option<Box<dyn TrainingStep>> {
    let mut words = case.split(' ');
    let (network, batch, mode) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let (mode, tf32) = match mode.strip_suffix("-tf32") {
        Some(mode) => (mode, true),
        None => (mode, false),
    };
    let drop_rate = match mode {
        "dense" => DropRate::DENSE,
        "sparse" => DropRate::new(0.8).ok()?,
        _ => return None,
    };
    // As PyTorch's defaults, or in full f32.
    ssprop::use_tf32(if tf32 { Tf32::Convolutions } else { Tf32::Off });
    Some(match network {
        "resnet18" => Box::new(Step::new::<ResNet18<10>>(dev, batch, drop_rate)),
        "resnet50" => Box::new(Step::new::<ResNet50<10>>(dev, batch, drop_rate)),
        "unet" => Box::new(UNetStep::new(dev, batch, drop_rate)),
        _ => return None,
    })
}

fn serve(dev: &Cuda) -> std::io::Result<()> {
    println!("ssprop");
    stdout().flush()?;
    let mut current: Option<(String, Box<dyn TrainingStep>)> = None;
    for line in stdin().lock().lines() {
        let case = line?;
        if current.as_ref().is_none_or(|(made, _)| *made != case) {
            // The memory of the case before is free again before this one takes its own.
            drop(current.take());
            ssprop::free_buffers();
            current = make(dev, &case).map(|step| (case, step));
        }
        match &mut current {
            Some((_, step)) => {
                dev.synchronize();
                let start = Instant::now();
                step.run();
                dev.synchronize();
                println!("{}", start.elapsed().as_secs_f64() * 1e3);
            }
            None => println!("unknown"),
        }
        stdout().flush()?;
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let served = ssprop::cuda_device(0)
        .map_err(|err| err.to_string())
        .and_then(|dev| serve(&dev).map_err(|err| err.to_string()));
    match served {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err}");
            std::process::ExitCode::FAILURE
        }
    }
}
