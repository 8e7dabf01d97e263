//! The side of `vs_pytorch.sh` that runs this crate. Without `--serve` or `--memory` it does
//! nothing, so that a plain `cargo bench` passes it by.
//!
//! `--serve`: prints a line that says what runs; then, for each line `CASE` on its standard input,
//! one line `forward backward optimizer total` with the milliseconds of one call, after 30 ms of
//! calls that are not timed. Cases are `conv LAYER dense`, `conv LAYER sparse` (names of [`convs::CONVS`]) and
//! `step BATCH dense`, `step BATCH sparse` (ResNet-18; `step50` for ResNet-50, `vit` for the vision transformer, `unet` for the U-Net),
//! `sample BATCH dense` (a step of sampling with the U-Net), and `eval BATCH dense`, `infer BATCH dense` (logits of
//! ResNet-18 in evaluation mode, in the latter with its norms folded). An unknown one is answered `unknown`.
//!
//! `--memory MODE` (dense or sparse): prints the kilobytes resident at the start, and at the peak of
//! three steps of ResNet-18 at 128 images.

#[path = "common/convs.rs"]
mod convs;
#[path = "common/inference.rs"]
mod inference;
#[path = "common/sampling.rs"]
mod sampling;
#[path = "common/step.rs"]
mod step;
#[path = "common/threads.rs"]
mod threads;
#[path = "common/unet.rs"]
mod unet;

use std::io::{stdin, stdout, BufRead, Write};
use std::time::{Duration, Instant};

use convs::{Conv, CONVS, DROP_RATE};
use inference::Evaluation;
use sampling::Sampling;
use ssprop::prelude::{Cpu, ResNet18, ResNet50, ViT};
use ssprop::sparsity::DropRate;
use step::{Net, Step};
use unet::UNetStep;

/// Calls that are not timed take as long before one that is.
const WARM_UP: Duration = Duration::from_millis(30);

/// Milliseconds of one call.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    forward: f64,
    backward: f64,
    optimizer: f64,
}

/// Something that can be timed again and again.
trait TimedCase {
    fn run(&mut self) -> Times;

    /// Whether each timed call follows some that are not timed. Steps of a whole network are long
    /// enough without.
    fn warms_up(&self) -> bool {
        true
    }
}

/// Milliseconds that `f` takes, and what it returns.
fn timed<T>(f: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let value = f();
    (start.elapsed().as_secs_f64() * 1e3, value)
}

struct ConvCase {
    conv: Box<dyn Conv>,
    drop_rate: DropRate,
}

impl TimedCase for ConvCase {
    fn run(&mut self) -> Times {
        let (forward, ()) = timed(|| self.conv.forward());
        let ready = self.conv.before_backward(self.drop_rate);
        let (backward, ()) = timed(ready);
        Times {
            forward,
            backward,
            ..Default::default()
        }
    }
}

macro_rules! step {
    ([$($generics:tt)*] $step:ty) => {
        impl<$($generics)*> TimedCase for $step {
            fn run(&mut self) -> Times {
                let (forward, loss) = timed(|| self.forward());
                let (backward, ()) = timed(|| self.backward(loss));
                let (optimizer, ()) = timed(|| self.update());
                Times {
                    forward,
                    backward,
                    optimizer,
                }
            }

            fn warms_up(&self) -> bool {
                false
            }
        }
    };
}
step!([M: Net<Cpu>] Step<M, Cpu>);
step!([] UNetStep<Cpu>);

macro_rules! forward {
    ($($case:ident),*) => {$(
        impl TimedCase for $case {
            fn run(&mut self) -> Times {
                let (forward, _) = timed(|| $case::run(self));
                Times {
                    forward,
                    ..Default::default()
                }
            }
        }
    )*};
}
forward!(Sampling, Evaluation);

fn make(case: &str) -> Option<Box<dyn TimedCase>> {
    let (kind, rest) = case.split_once(' ')?;
    let (layer, mode) = rest.rsplit_once(' ')?;
    let (dev, drop_rate) = (Cpu::default(), drop_rate(mode)?);
    match kind {
        "conv" => {
            let (_, conv) = CONVS.iter().find(|(name, _)| *name == layer)?;
            let conv = conv();
            Some(Box::new(ConvCase { conv, drop_rate }))
        }
        "step" => {
            let batch = layer.parse().ok()?;
            Some(Box::new(Step::new::<ResNet18<10>>(&dev, batch, drop_rate)))
        }
        "step50" => {
            let batch = layer.parse().ok()?;
            Some(Box::new(Step::new::<ResNet50<10>>(&dev, batch, drop_rate)))
        }
        "vit" => {
            type Net = ViT<10, 3, 32, 4, 64, 256, 4, 6>;
            let batch = layer.parse().ok()?;
            Some(Box::new(Step::new::<Net>(&dev, batch, drop_rate)))
        }
        "unet" => Some(Box::new(UNetStep::new(
            &dev,
            layer.parse().ok()?,
            drop_rate,
        ))),
        "eval" | "infer" => {
            let batch = layer.parse().ok()?;
            Some(Box::new(Evaluation::new(batch, kind == "infer")))
        }
        "sample" => Some(Box::new(Sampling::new(layer.parse().ok()?))),
        _ => None,
    }
}

fn drop_rate(mode: &str) -> Option<DropRate> {
    match mode {
        "dense" => Some(DropRate::DENSE),
        "sparse" => DropRate::new(DROP_RATE).ok(),
        _ => None,
    }
}

fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "AVX512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2";
        }
    }
    std::env::consts::ARCH
}

fn serve() -> std::io::Result<()> {
    println!(
        "ssprop {}, {} threads, {}",
        env!("CARGO_PKG_VERSION"),
        rayon::current_num_threads(),
        instruction_set(),
    );
    stdout().flush()?;
    let mut current: Option<(String, Box<dyn TimedCase>)> = None;
    for line in stdin().lock().lines() {
        let name = line?;
        if current.as_ref().is_none_or(|(made, _)| *made != name) {
            // The memory of the case before is free again before this one takes its own.
            drop(current.take());
            current = make(&name).map(|case| (name, case));
        }
        match &mut current {
            Some((_, case)) => {
                // Until threads that slept while the other side ran are awake.
                let start = Instant::now();
                while case.warms_up() && start.elapsed() < WARM_UP {
                    case.run();
                }
                let Times {
                    forward,
                    backward,
                    optimizer,
                } = case.run();
                let total = forward + backward + optimizer;
                println!("{forward} {backward} {optimizer} {total}");
            }
            None => println!("unknown"),
        }
        stdout().flush()?;
    }
    Ok(())
}

/// A field of Linux's `/proc/self/status`, in kilobytes.
fn status_kb(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn memory(mode: &str) {
    let at_start = status_kb("VmRSS:");
    let peak = make(&format!("step 128 {mode}")).and_then(|mut case| {
        for _ in 0..3 {
            case.run();
        }
        status_kb("VmHWM:")
    });
    match (at_start, peak) {
        (Some(at_start), Some(peak)) => println!("{at_start} {peak}"),
        _ => println!("unknown"),
    }
}

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--serve", ..] => threads::on_threads(2, serve),
        ["--memory", mode, ..] => {
            threads::on_threads(2, || memory(mode));
            Ok(())
        }
        _ => Ok(()),
    }
}
