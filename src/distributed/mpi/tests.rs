//! Each test runs itself as several ranks: this program again, under `mpirun`.

use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Mpi;
use crate::distributed::transport::{Kind, Payload, Tag, Transport};
use crate::threads::launched;

/// Runs the test `name` of this module as `count` ranks. `None` where there is no `mpirun`.
fn run(name: &str, count: usize) -> Option<Output> {
    let test = format!("distributed::mpi::tests::{name}");
    let mut command = Command::new("mpirun");
    command.args(["-n", &count.to_string()]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", &test, "--nocapture", "--test-threads=1"]);
    // Open MPI: as root, and with more ranks than cores.
    for name in [
        "OMPI_ALLOW_RUN_AS_ROOT",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
        "OMPI_MCA_rmaps_base_oversubscribe",
    ] {
        command.env(name, "1");
    }
    command.env("OMPI_MCA_hwloc_base_binding_policy", "none");
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("{name} has not run: there is no mpirun");
            None
        }
        output => Some(output.unwrap()),
    }
}

fn assert_success(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
}

/// The message that `from` sends to `to` as the `i`-th: both know it.
fn message(from: usize, to: usize, i: usize) -> (Tag, Payload) {
    let seed = (from * 100 + to) * 1000 + i;
    let mut rng = StdRng::seed_from_u64(seed as u64);
    let kind = Kind::ALL[rng.gen_range(0..Kind::ALL.len())];
    let number = [0, 1, Tag::NUMBERS - 1][rng.gen_range(0..3)];
    // Short and long ones in turn, so that they would overtake each other.
    let most = [1, 100, 1 << 12, 1 << 18][rng.gen_range(0..4)];
    let len = rng.gen_range(0..most);
    let payload = match kind.is_floats() {
        true => Payload::Floats((0..len).map(|_| rng.gen()).collect()),
        false => Payload::Bytes((0..len * 4).map(|_| rng.gen()).collect()),
    };
    (Tag { kind, number }, payload)
}

#[test]
fn all_ranks_send_to_all_at_once_and_messages_with_a_tag_keep_their_order() {
    const COUNT: usize = 60;
    if launched().is_none() {
        let name = "all_ranks_send_to_all_at_once_and_messages_with_a_tag_keep_their_order";
        let outputs = (2..=4).map_while(|count| run(name, count));
        return outputs.for_each(|output| assert_success(&output));
    }
    let mut mpi = Box::new(Mpi::start().unwrap());
    let (rank, size) = (mpi.rank(), mpi.size());
    assert_eq!(launched().map(|l| [l.rank, l.size]), Some([rank, size]));
    for i in 0..COUNT {
        for to in 0..size {
            let (tag, payload) = message(rank, to, i);
            mpi.send(to, tag, payload).unwrap();
        }
    }
    // What has not come yet, in the order in which it was sent.
    let mut expected: Vec<Vec<_>> = (0..size)
        .map(|from| (0..COUNT).map(|i| message(from, rank, i)).collect())
        .collect();
    while expected.iter().any(|messages| !messages.is_empty()) || !mpi.is_sent() {
        let Some((from, tag, payload)) = mpi.receive().unwrap() else {
            continue;
        };
        let next = expected[from].iter().position(|(other, _)| *other == tag);
        let (_, first) = expected[from].remove(next.expect("a message that was not sent"));
        assert!(first == payload, "{tag:?} from {from}: another message");
    }
    assert_eq!(mpi.receive().unwrap(), None);
    mpi.close();
}

#[test]
fn a_second_start_is_an_error() {
    if launched().is_none() {
        if let Some(output) = run("a_second_start_is_an_error", 2) {
            assert_success(&output);
        }
        return;
    }
    let mpi = Box::new(Mpi::start().unwrap());
    let (rank, again) = (mpi.rank(), Mpi::start().err().unwrap().to_string());
    assert!(
        again.starts_with(&format!("rank {rank}: MPI has been started before")),
        "{again}"
    );
    mpi.close();
}

const HELLO: Tag = Tag {
    kind: Kind::Answer,
    number: 7,
};

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_killed_rank_ends_the_others() {
    if launched().is_none() {
        let start = Instant::now();
        if let Some(output) = run("a_killed_rank_ends_the_others", 3) {
            assert!(!output.status.success());
            // Open MPI: "process rank 1 ... exited on signal 9 (Killed)"; MPICH says it on stdout.
            let text =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).to_lowercase();
            assert!(text.contains("signal"), "{text}");
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{:?}",
                start.elapsed()
            );
        }
        return;
    }
    let mut mpi = Mpi::start().unwrap();
    if mpi.rank() == 1 {
        sleep(Duration::from_millis(500));
        signal("KILL", std::process::id());
    }
    // The launcher ends it, with SIGTERM at first: MPI itself tells nothing.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(15) {
        if mpi.is_sent() {
            mpi.send(1, HELLO, Payload::Bytes(vec![1; 1 << 20]))
                .unwrap();
        }
        mpi.receive().unwrap();
        sleep(Duration::from_millis(1));
    }
    panic!("nobody ended this rank");
}

#[test]
fn nothing_waits_for_a_rank_that_hangs() {
    if launched().is_none() {
        if let Some(output) = run("nothing_waits_for_a_rank_that_hangs", 2) {
            assert_success(&output);
        }
        return;
    }
    let mut mpi = Box::new(Mpi::start().unwrap());
    let other = 1 - mpi.rank();
    let long = || Payload::Floats(vec![1.5; 1 << 20]);
    let tag = Tag {
        kind: Kind::Part,
        number: 3,
    };
    if mpi.rank() == 1 {
        let pid = std::process::id();
        mpi.send(other, HELLO, Payload::Bytes(pid.to_le_bytes().into()))
            .unwrap();
        while !mpi.is_sent() {
            mpi.receive().unwrap();
        }
        signal("STOP", pid);
    } else {
        let pid = loop {
            if let Some((1, HELLO, Payload::Bytes(pid))) = mpi.receive().unwrap() {
                break u32::from_le_bytes(pid.try_into().unwrap());
            }
        };
        sleep(Duration::from_millis(300));
        let start = Instant::now();
        mpi.send(other, tag, long()).unwrap();
        for _ in 0..100 {
            assert_eq!(mpi.receive().unwrap(), None);
            assert!(!mpi.is_sent());
            sleep(Duration::from_millis(2));
        }
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
        signal("CONT", pid);
    }
    if mpi.rank() == 1 {
        let found = loop {
            if let Some(found) = mpi.receive().unwrap() {
                break found;
            }
        };
        assert!(found == (0, tag, long()));
    }
    mpi.close();
}
