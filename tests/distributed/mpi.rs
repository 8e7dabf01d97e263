//! The same over MPI: this program again, as several processes under `mpirun`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ssprop::data::BatchLoader;
use ssprop::distributed::Communicator;
use ssprop::prelude::*;
use ssprop::run::{Run, RunConfig, RunOptions};
use ssprop::Result;

use crate::{images, on_ranks, Net};

/// The epochs of a run.
const EPOCHS: u64 = 6;
/// How long a rank may be silent there.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Where a rank's run goes, in the environment.
const OUT: &str = "SSPROP_TEST_OUT";

/// Whether the first rank has work left when the others are done, in the environment.
const LINGER: &str = "SSPROP_TEST_LINGER";

/// Begins `mpirun` with this program's [`rank`] as so many processes. `None` where there is no `mpirun`.
fn begin(ranks: usize, out: &Path) -> Option<Child> {
    begin_with(ranks, out, &[])
}

fn begin_with(ranks: usize, out: &Path, variables: &[(&str, &str)]) -> Option<Child> {
    let mut command = Command::new("mpirun");
    command.args(["-n", &ranks.to_string()]);
    command.arg(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "mpi::rank",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(OUT, out).envs(variables.iter().copied());
    // Open MPI: as root, and with more ranks than cores.
    for name in [
        "OMPI_ALLOW_RUN_AS_ROOT",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
        "OMPI_MCA_rmaps_base_oversubscribe",
    ] {
        command.env(name, "1");
    }
    command.env("OMPI_MCA_hwloc_base_binding_policy", "none");
    command.env("RAYON_NUM_THREADS", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    match command.spawn() {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("not run: there is no mpirun");
            None
        }
        child => Some(child.unwrap()),
    }
}

fn text(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn run(ranks: usize, out: &Path) -> Option<String> {
    let output = begin(ranks, out)?.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    Some(text(&output))
}

/// One process of a run. It goes on from the run's checkpoint, if there is one, and saves after every step.
#[test]
#[ignore = "the other tests start it under mpirun"]
fn rank() {
    let out = PathBuf::from(std::env::var_os(OUT).unwrap());
    let run = || train(&Communicator::from_environment()?, &out);
    let result = ssprop::on_threads(None, run).flatten();
    if let Err(err) = result {
        eprintln!("error: {err}");
        std::process::exit(1);
    }
}

fn train(rank: &Communicator, out: &Path) -> Result<()> {
    rank.set_timeout(TIMEOUT);
    let pids = rank
        .gather(std::process::id().to_le_bytes().to_vec())?
        .concat();
    if rank.is_first() {
        std::fs::write(out.with_extension("pids"), pids).unwrap();
    }
    let dev = Cpu::seed_from_u64(1);
    let loader = BatchLoader::new(&images(200), 10)?.shuffle(2);
    let mut trainer = Trainer::new(dev.build_module::<Net, f32>(), AdamConfig::adam())?
        .with_schedule(Schedule::alternating(DropRate::new(0.75)?))?
        .with_communicator(rank)?;
    let there = out.join("checkpoint.safetensors").exists();
    let options = RunOptions {
        out: Some(out.to_owned()),
        resume: rank.any(there)?.then(|| out.to_owned()),
        save_every: Some(Duration::ZERO),
        overwrite: true,
        ..RunOptions::default()
    };
    let mut run = Run::start_on(rank, "unused", options, RunConfig::new("ranks"))?;
    run.resume(&mut trainer)?;
    while let Some(epoch) = run.train(&mut trainer, EPOCHS, |trainer, observer| {
        trainer.train_part::<1, 8, 8, 4>(&dev, &loader, observer)
    })? {
        let found = trainer.evaluate::<1, 8, 8, 4>(&dev, &loader)?;
        run.record(&trainer, &epoch, &[("test_loss", found.loss)])?;
    }
    run.finish()?;
    if rank.is_first() && std::env::var_os(LINGER).is_some() {
        // Longer than a program would wait for one that is lost.
        std::thread::sleep(Duration::from_secs(7));
        std::fs::write(out.join("late"), "").unwrap();
    }
    Ok(())
}

/// The losses of a run's epochs.
fn losses(out: &Path) -> Vec<f64> {
    let records = ssprop::run::read_records(out.join("metrics.csv")).unwrap();
    let values = ["train_loss", "test_loss"];
    let of = |record: &ssprop::run::Record| values.map(|name| record.get(name).unwrap());
    records.iter().flat_map(of).collect()
}

#[test]
fn runs_over_mpi_are_those_of_threads_and_repeat_themselves() {
    let folder = tempfile::tempdir().unwrap();
    for ranks in [1, 2, 3, 4] {
        let [first, again] = ["first", "again"].map(|name| folder.path().join(name));
        let Some(output) = run(ranks, &first) else {
            return;
        };
        // One rank prints.
        assert_eq!(output.matches("Results go to").count(), 1, "{output}");
        assert_eq!(output.matches("epoch 6/6").count(), 1, "{output}");
        run(ranks, &again).unwrap();
        assert_eq!(losses(&first), losses(&again));
        let threads = folder.path().join("threads");
        on_ranks(ranks, |rank| train(&rank, &threads).unwrap());
        assert_eq!(losses(&first), losses(&threads));
        assert_eq!(losses(&first).len(), 2 * EPOCHS as usize);
        for out in [first, again, threads] {
            std::fs::remove_dir_all(out).unwrap();
        }
    }
}

#[test]
fn the_first_rank_may_end_after_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("late");
    let Some(child) = begin_with(2, &out, &[(LINGER, "1")]) else {
        return;
    };
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(out.join("late").exists());
}

/// The processes of a run that has begun, in the order of their ranks.
fn pids(out: &Path) -> Vec<u32> {
    let begun = Instant::now();
    loop {
        let bytes = std::fs::read(out.with_extension("pids")).unwrap_or_default();
        if !bytes.is_empty() {
            let pids = bytes.as_chunks().0.iter();
            return pids.map(|&pid| u32::from_le_bytes(pid)).collect();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it does not begin"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(status.is_ok());
}

#[test]
fn a_rank_killed_at_any_moment_costs_no_more_than_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let begun = Instant::now();
    if run(3, &whole).is_none() {
        return;
    }
    let time = begun.elapsed().as_secs_f64();
    let mut rng = StdRng::seed_from_u64(4);
    let times = std::env::var("SSPROP_TEST_KILLS").map_or(4, |n| n.parse().unwrap());
    for i in 0..times {
        let out = folder.path().join(format!("killed {i}"));
        let child = begin(3, &out).unwrap();
        let pids = pids(&out);
        std::thread::sleep(Duration::from_secs_f64(rng.gen_range(0.0..0.7 * time)));
        let begun = Instant::now();
        signal("KILL", pids[rng.gen_range(0..3)]);
        let output = child.wait_with_output().unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{}",
            text(&output)
        );
        if !output.status.success() {
            // The launcher names the rank.
            assert!(text(&output).contains("signal 9"), "{}", text(&output));
        }
        run(3, &out).unwrap();
        // Running statistics are rounded where a run is saved, and nothing else depends on it.
        for (found, expected) in losses(&out).iter().zip(losses(&whole)) {
            assert!((found - expected).abs() < 1e-6, "{found}, {expected}");
        }
    }
}

#[test]
fn a_rank_that_hangs_is_named_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("hangs");
    let Some(child) = begin(3, &out) else {
        return;
    };
    let pids = pids(&out);
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    signal("STOP", pids[2]);
    let output = child.wait_with_output().unwrap();
    let time = begun.elapsed();
    assert!(!output.status.success());
    let text = text(&output);
    assert!(text.contains("no answer from rank 2"), "{text}");
    assert!(text.contains(&format!("process {}", pids[2])), "{text}");
    assert!(time < 2 * TIMEOUT + Duration::from_secs(15), "{time:?}");
    signal("KILL", pids[2]);
}
