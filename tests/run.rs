//! A run as a process of its own: interrupted, killed, and with nobody who reads what it prints.
//!
//! The child is this test binary again, told by an environment variable to train.
#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::prelude::*;
use ssprop::run::{read_records, Run, RunConfig, RunOptions};

const FOLDER: &str = "SSPROP_TEST_RUN_FOLDER";
const EPOCHS: u64 = 6;

/// Trains in the folder that the environment names: anew, or on from what lies there.
fn child(folder: &Path) -> ssprop::Result<()> {
    type Net = (
        SparseConv2D<1, 16, 3, 1, 1>,
        BatchNorm2D<16>,
        ReLU,
        SparseConv2D<16, 16, 3, 2, 1>,
        GlobalAvgPool,
        Linear<16, 2>,
    );
    let pixels = (0..240 * 256).map(|i: usize| (i * 7919 % 251 + i / 256 % 5) as u8);
    let labels = (0..240).map(|i| (i % 2) as u16);
    let shape = ImageShape::new(1, 16, 16);
    let data = ImageDataset::new(pixels.collect(), labels.collect(), shape, 2)?;
    let loader = BatchLoader::new(&data, 8)?.shuffle(4);
    let dev = Cpu::seed_from_u64(1);
    let mut model = dev.build_module::<Net, f32>();
    model.set_dropout(0.2, 6)?;
    let plan: SchedulePlan = "bar,drop=0.8,period=2".parse()?;
    let mut trainer = Trainer::new(model, AdamConfig::adam())?.with_schedule(plan)?;

    let begun = folder.join("checkpoint.safetensors").exists();
    let options = RunOptions {
        out: Some(folder.to_owned()),
        resume: begun.then(|| folder.to_owned()),
        save_every: Some(Duration::from_millis(5)),
        overwrite: true,
        profile: true,
        ..RunOptions::default()
    };
    let config = RunConfig::new("a test")
        .fixed("seed", 4)
        .keep_best_by("test_accuracy");
    let mut run = Run::start("unused", options, config)?;
    run.resume(&mut trainer)?;
    while let Some(epoch) = run.train(&mut trainer, EPOCHS, |trainer, observer| {
        trainer.train_part::<1, 16, 16, 2>(&dev, &loader, observer)
    })? {
        let found = trainer.evaluate::<1, 16, 16, 2>(&dev, &loader)?;
        run.record(&trainer, &epoch, &[("test_accuracy", found.accuracy())])?;
    }
    ssprop::run::say(run.finish()?);
    Ok(())
}

/// Not a test of its own: what the others start.
#[test]
fn child_process() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let done = child(Path::new(&folder));
        let _ = std::fs::write(
            PathBuf::from(folder).join("ending"),
            format!("{:?}", done.as_ref().map_err(ToString::to_string)),
        );
        if let Err(ssprop::Error::Interrupted { signal, .. }) = done {
            std::process::exit(128 + i32::from(signal));
        }
        done.unwrap();
    }
}

fn start(folder: &Path, stdout: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child_process", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .env("RAYON_NUM_THREADS", "1")
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_run_tells_where_its_time_went() {
    let folder = tempfile::tempdir().unwrap();
    let output = start(folder.path(), Stdio::piped()).wait_with_output();
    let printed = String::from_utf8(output.unwrap().stdout).unwrap();
    for line in [
        "| sparse step | ms | share |",
        "| convolution, dX |",
        "| in all |",
    ] {
        assert!(printed.contains(line), "{printed}");
    }
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &id]).status();
    assert!(sent.unwrap().success());
}

/// Waits until the run has saved something newer than `since`.
fn wait_for_checkpoint(folder: &Path, child: &mut Child) {
    let start = Instant::now();
    while !folder.join("checkpoint.safetensors").exists() {
        assert!(start.elapsed() < Duration::from_secs(60));
        if child.try_wait().unwrap().is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn finish(folder: &Path) -> ExitStatus {
    start(folder, Stdio::null()).wait().unwrap()
}

/// The tensors, without the header, which has the times of the epochs.
fn tensors(folder: &Path) -> Vec<u8> {
    let bytes = std::fs::read(folder.join("checkpoint.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

/// Whether two runs ended alike: tensors and records to the bit.
fn assert_same(a: &Path, b: &Path) {
    assert!(tensors(a) == tensors(b));
    let records = |folder: &Path| {
        let records = read_records(folder.join("metrics.csv")).unwrap();
        let values = ["train_loss", "test_accuracy", "grad_norm", "mean_drop_rate"];
        records
            .iter()
            .map(|r| values.map(|name| r.get(name)))
            .collect::<Vec<_>>()
    };
    assert_eq!(records(a), records(b));
    assert_eq!(records(a).len(), EPOCHS as usize);
}

#[test]
fn interrupted_runs_are_saved_and_go_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    assert!(finish(&whole).success());

    for (name, status, word) in [("INT", 130, "SIGINT"), ("TERM", 143, "SIGTERM")] {
        let out = folder.path().join(name);
        let mut child = start(&out, Stdio::null());
        wait_for_checkpoint(&out, &mut child);
        // Twice at once, as `timeout` and others do.
        signal(&child, name);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(status));
        let ending = std::fs::read_to_string(out.join("ending")).unwrap();
        assert!(
            ending.contains(word) && ending.contains("--resume"),
            "{ending}"
        );
        assert!(finish(&out).success());
        assert_same(&out, &whole);
    }
}

#[test]
fn killed_runs_lose_no_more_than_the_last_steps() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, out) = (folder.path().join("whole"), folder.path().join("killed"));
    assert!(finish(&whole).success());
    // More by the environment: each kill at another moment of the run.
    let kills = std::env::var("SSPROP_TEST_KILLS").map_or(6, |n| n.parse().unwrap());
    for kill in 0..kills {
        let mut child = start(&out, Stdio::null());
        wait_for_checkpoint(&out, &mut child);
        std::thread::sleep(Duration::from_millis(kill * 37 % 61));
        signal(&child, "KILL");
        child.wait().unwrap();
        if kill % 12 == 11 {
            // It may have reached its end: begin again.
            assert!(finish(&out).success());
            assert_same(&out, &whole);
            std::fs::remove_dir_all(&out).unwrap();
        }
    }
    assert!(finish(&out).success());
    assert_same(&out, &whole);
    let names = std::fs::read_dir(&out).unwrap();
    let remains = names.filter(|name| {
        let name = name.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".tmp")
    });
    assert_eq!(remains.count(), 0, "remains of interrupted writes");
}

#[test]
fn a_flipped_bit_is_found_and_the_checkpoint_before_serves() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, out) = (folder.path().join("whole"), folder.path().join("flipped"));
    assert!(finish(&whole).success());
    let mut child = start(&out, Stdio::null());
    while !out.join("checkpoint.previous.safetensors").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&child, "INT");
    child.wait().unwrap();
    let newest = out.join("checkpoint.safetensors");
    let mut bytes = std::fs::read(&newest).unwrap();
    // In the exponent of a second moment.
    let place = bytes.len() - 101;
    bytes[place] ^= 0x10;
    std::fs::write(&newest, bytes).unwrap();
    assert!(finish(&out).success());
    assert_same(&out, &whole);
}

#[test]
fn a_terminal_that_is_gone_does_not_end_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut child = start(&out, Stdio::piped());
    // The reader goes away once training begins.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("Results go to")));
    drop(lines);
    child.wait().unwrap();
    let ending = std::fs::read_to_string(out.join("ending")).unwrap();
    assert_eq!(ending, "Ok(())");
}
