//! A training step of ResNet-18 and its inference, with this crate, burn (its CPU backend flex) and candle:
//! 3x32x32 images, alternately in one process, on the threads that RAYON_NUM_THREADS says (2 without it).
//!
//!     cargo run --release --manifest-path benches/frameworks/Cargo.toml [ROUNDS]
//!
//! Each has cross entropy, and Adam (candle: AdamW without decay, which is the same). ssProp drops 80%.

mod ours;
#[path = "../../common/step.rs"]
mod step;
mod with_burn;
mod with_candle;

use std::time::Instant;

/// Images of a training step.
const BATCH: usize = 32;
/// Images of an inference.
const INFERENCES: [usize; 2] = [1, 32];
const CLASSES: usize = 10;

/// A framework's network, ready to be timed.
trait Framework {
    /// One update of the weights from a batch of [`BATCH`].
    fn step(&mut self);
    /// The logits of `batch` images, one of [`INFERENCES`]; false if there is nothing to time.
    fn infer(&mut self, batch: usize) -> bool;
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Milliseconds, if there is something to time.
fn timed(f: impl FnOnce() -> bool) -> Option<f64> {
    let start = Instant::now();
    f().then(|| start.elapsed().as_secs_f64() * 1e3)
}

fn main() {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", "2") };
    }
    let rounds = std::env::args()
        .nth(1)
        .map_or(5, |n| n.parse().expect("a number of rounds"));
    let mut frameworks: Vec<(&str, Box<dyn Framework>)> = vec![
        ("ssprop, dense", Box::new(ours::Ours::new(false))),
        ("ssprop, 80% dropped", Box::new(ours::Ours::new(true))),
        ("burn 0.22, flex", Box::new(with_burn::Burn::new())),
        ("candle 0.11", Box::new(with_candle::Candle::new())),
    ];
    let cases = 1 + INFERENCES.len();
    let mut times = vec![vec![Vec::new(); cases]; frameworks.len()];
    // The first round warms up.
    for round in 0..=rounds {
        for ((_, framework), times) in frameworks.iter_mut().zip(&mut times) {
            let mut found = vec![timed(|| {
                framework.step();
                true
            })];
            found.extend(INFERENCES.map(|batch| timed(|| framework.infer(batch))));
            if round > 0 {
                times
                    .iter_mut()
                    .zip(found)
                    .for_each(|(all, one)| all.extend(one));
            }
        }
    }
    let medians: Vec<Vec<Option<f64>>> = times
        .into_iter()
        .map(|t| t.into_iter().map(median).collect())
        .collect();
    println!("Milliseconds, medians of {rounds} rounds, and as a multiple of ssprop's dense:\n");
    println!("| | training step, {BATCH} images | inference, 1 image | inference, 32 images |");
    println!("|---|---:|---:|---:|");
    for ((name, _), of) in frameworks.iter().zip(&medians) {
        let cells: Vec<String> = of
            .iter()
            .zip(&medians[0])
            .map(|(ms, ours)| match (ms, ours) {
                (Some(ms), Some(ours)) => format!("{ms:.1} ({:.2}x)", ms / ours),
                _ => String::new(),
            })
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}
