//! Where a training step's time goes, operation by operation.
//!
//! Off unless switched on: an operation then pays for reading a flag.
//!
//! ```
//! use ssprop::prelude::*;
//! use ssprop::profile;
//!
//! let dev = Cpu::default();
//! let conv = dev.build_module::<SparseConv2D<3, 8, 3, 1, 1>, f32>();
//! profile::start();
//! conv.forward(dev.zeros::<Rank4<1, 3, 8, 8>>());
//! let spent = profile::stop();
//! assert_eq!((spent[0].operation, spent[0].calls), ("convolution, forward", 1));
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static ON: AtomicBool = AtomicBool::new(false);
static SPENT: Mutex<BTreeMap<&'static str, (u64, Duration)>> = Mutex::new(BTreeMap::new());

/// What was spent on one kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Its name.
    pub operation: &'static str,
    /// How often it ran.
    pub calls: u64,
    /// The wall time of all calls together.
    pub time: Duration,
}

/// Begins anew: what runs from here on, on any thread of the process, is timed.
pub fn start() {
    SPENT.lock().unwrap_or_else(PoisonError::into_inner).clear();
    ON.store(true, Ordering::Relaxed);
}

/// Stops, and returns what was spent since [`start`], the most first.
pub fn stop() -> Vec<Spent> {
    ON.store(false, Ordering::Relaxed);
    let spent = std::mem::take(&mut *SPENT.lock().unwrap_or_else(PoisonError::into_inner));
    let mut spent: Vec<Spent> = spent
        .into_iter()
        .map(|(operation, (calls, time))| Spent {
            operation,
            calls,
            time,
        })
        .collect();
    spent.sort_by_key(|s| std::cmp::Reverse(s.time));
    spent
}

/// Runs `f`, as a part of `operation` if time is taken.
pub(crate) fn timed<T>(operation: &'static str, f: impl FnOnce() -> T) -> T {
    if !ON.load(Ordering::Relaxed) {
        return f();
    }
    let start = Instant::now();
    let value = f();
    let time = start.elapsed();
    let mut spent = SPENT.lock().unwrap_or_else(PoisonError::into_inner);
    let (calls, sum) = spent.entry(operation).or_default();
    *calls += 1;
    *sum += time;
    value
}
