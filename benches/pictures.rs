//! What the loader of pictures does: images a second and core, and memory.
//!
//!     cargo run --example pictures -- DIR [SIZE] [BATCH] [WORKERS] [MOST]
//!
//! DIR has a folder of pictures for each class, or train and val that do (`benches/pictures.py` makes
//! some). Goes once over the training images, up to MOST, in batches that are thrown away.

use std::time::Instant;

use ssprop::data::{folder, BatchLoader, Limits};

fn main() -> ssprop::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| -> usize {
        args.get(i)
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (size, batch, workers) = (number(1, 64), number(2, 64), number(3, 1));
    let (path, most) = (args.first().expect("a folder"), number(4, usize::MAX));

    let start = Instant::now();
    let images = folder(path, size, Limits::default(), 0)?.train;
    println!(
        "{} images found in {:.2} s; {}",
        images.len(),
        start.elapsed().as_secs_f64(),
        memory(),
    );
    let loader = BatchLoader::new(&images, batch)?.shuffle(0);
    let loader = loader.workers(workers).skip_damaged(true);
    let (start, mut done, mut said) = (Instant::now(), 0, 0);
    for batch in loader.epoch(0) {
        let batch = batch?;
        if done == 0 {
            println!("first batch after {:.3} s", start.elapsed().as_secs_f64());
        }
        done += batch.len();
        if done >= said + 10_000 {
            said = done;
            println!("{done} images; {}", memory());
        }
        if done >= most {
            break;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{done} images of {size}x{size} in batches of {batch} by {workers} workers: {seconds:.2} s, \
         {:.0} a second; {}",
        done as f64 / seconds,
        memory(),
    );
    Ok(())
}

/// Resident memory now and at its highest, where the system tells.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let megabytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kilobytes: f64 = line.trim_end_matches("kB").trim().parse().ok()?;
        Some(kilobytes / 1024.0)
    };
    match (megabytes("VmRSS:"), megabytes("VmHWM:")) {
        (Some(now), Some(most)) => format!("{now:.0} MB resident, at most {most:.0}"),
        _ => "resident memory unknown".to_owned(),
    }
}
