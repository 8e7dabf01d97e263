//! SIGINT and SIGTERM, which end a run at the next step.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::Once;
use std::time::{Duration, Instant};

/// The signal that came, or 0. One for the process, as its signals are.
static CAME: AtomicU8 = AtomicU8::new(0);
/// Runs that are going on, each with a [`Listener`].
static RUNS: AtomicUsize = AtomicUsize::new(0);
static THREAD: Once = Once::new();

/// Signals that come so soon after the first one are the same: `timeout` and others send one to the
/// process and one to its group.
const SAME: Duration = Duration::from_millis(500);

/// As long as one lives a first signal is kept for [`came`]; a later one, and one that comes to no run,
/// ends the process at once.
#[derive(Debug)]
pub(super) struct Listener(());

impl Listener {
    pub(super) fn new() -> Self {
        RUNS.fetch_add(1, Ordering::Relaxed);
        listen();
        Self(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        RUNS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn listen() {
    THREAD.call_once(|| {
        use signal_hook::consts::{SIGINT, SIGTERM};
        // Where it cannot be had, signals do what they did before.
        let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else {
            return;
        };
        let wait = move || {
            let mut first = None;
            for signal in signals.forever() {
                let signal = signal as u8;
                match first {
                    None if RUNS.load(Ordering::Relaxed) > 0 => {
                        first = Some(Instant::now());
                        CAME.store(signal, Ordering::Relaxed);
                    }
                    Some(first) if first.elapsed() < SAME => {}
                    _ => std::process::exit(128 + i32::from(signal)),
                }
            }
        };
        let _ = std::thread::Builder::new()
            .name("signals".into())
            .spawn(wait);
    });
}

/// The number of the signal that came, if one did.
pub(super) fn came() -> Option<u8> {
    Some(CAME.load(Ordering::Relaxed)).filter(|&signal| signal > 0)
}
