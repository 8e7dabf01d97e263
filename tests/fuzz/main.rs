//! Every parser of outside bytes, with changed inputs: an error or a result, but no panic, no hang
//! and no allocation out of proportion.
//!
//! The inputs follow from a seed. A longer run, of one target or all:
//!
//!     SSPROP_FUZZ_INPUTS=1000000 SSPROP_FUZZ_TARGET=zip cargo test --test fuzz -- --nocapture
//!
//! `SSPROP_FUZZ_SEED` gives others.

mod allocator;
mod mutate;
mod repair;
mod targets;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::SeedableRng;
use targets::Target;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// Of an ordinary test run.
const INPUTS: usize = 3000;
/// Bytes that a parser may hold beside the input.
const MEMORY: usize = 64 << 20;
const LONGEST: Duration = Duration::from_secs(10);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text}: not a number")),
    )
}

/// What went wrong with an input.
fn run(target: &mut Target, input: &[u8], taken: &mut usize) -> Option<String> {
    let mut outcome = Ok(false);
    let start = Instant::now();
    let peak = allocator::peak_of(|| {
        outcome = catch_unwind(AssertUnwindSafe(|| (target.parse)(input)));
    });
    let time = start.elapsed();
    match outcome {
        Ok(found) => *taken += usize::from(found),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            return Some(format!("panic: {}", text.unwrap_or_default()));
        }
    }
    if time > LONGEST {
        return Some(format!("takes {time:?}"));
    }
    (peak > MEMORY + input.len()).then(|| format!("holds {peak} bytes"))
}

fn fuzz(target: &mut Target, inputs: usize, seed: u64, folder: &Path) -> Vec<String> {
    let mut faults: Vec<String> = Vec::new();
    let (mut taken, start) = (0, Instant::now());
    for (i, seed) in target.seeds.clone().iter().enumerate() {
        let fault = run(target, seed, &mut taken);
        // A target that takes nothing looks at nothing but headers.
        let fault = fault.or_else(|| (taken <= i).then(|| "not taken".to_owned()));
        if let Some(fault) = fault {
            faults.push(format!("{}: unchanged {i}: {fault}", target.name));
        }
    }
    let mut rng = StdRng::seed_from_u64(seed);
    for i in 0..inputs {
        let input = mutate::mutate(&mut rng, &target.seeds);
        let input = (target.finish)(&mut rng, input);
        if let Some(fault) = run(target, &input, &mut taken) {
            let file = folder.join(format!("{}-{i}", target.name.replace(' ', "-")));
            std::fs::write(&file, &input).unwrap();
            faults.push(format!("{} {i} ({}): {fault}", target.name, file.display()));
            if faults.len() > 10 {
                break;
            }
        }
    }
    println!(
        "{}: {inputs} inputs, {taken} taken, {} faults, {:.1} s",
        target.name,
        faults.len(),
        start.elapsed().as_secs_f64()
    );
    faults
}

// One test: the allocator counts for all threads.
#[test]
fn changed_inputs_do_no_harm() {
    let inputs = number("SSPROP_FUZZ_INPUTS").unwrap_or(INPUTS as u64) as f64;
    let seed = number("SSPROP_FUZZ_SEED").unwrap_or(0);
    let only = std::env::var("SSPROP_FUZZ_TARGET").ok();
    let folder = tempfile::tempdir().unwrap();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let kept = std::env::temp_dir();
    let mut faults = Vec::new();
    for mut target in targets::all(folder.path()) {
        if only.as_deref().is_none_or(|only| only == target.name) {
            // What is asked for is what is run.
            let share = if number("SSPROP_FUZZ_INPUTS").is_some() {
                1.0
            } else {
                target.share
            };
            faults.extend(fuzz(&mut target, (inputs * share) as usize, seed, &kept));
        }
    }
    std::panic::set_hook(hook);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
