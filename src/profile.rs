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

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

thread_local! {
    /// How often each operation ran, and how long; `None` while it is off.
    static SPENT: RefCell<Option<BTreeMap<&'static str, (u64, Duration)>>> = const { RefCell::new(None) };
}

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

/// Begins anew: the operations that this thread calls from here on are timed.
pub fn start() {
    SPENT.set(Some(BTreeMap::new()));
}

/// Stops, and returns what was spent since [`start`], the most first.
pub fn stop() -> Vec<Spent> {
    let spent = SPENT.take().unwrap_or_default();
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
    if SPENT.with_borrow(Option::is_none) {
        return f();
    }
    let start = Instant::now();
    let value = f();
    let time = start.elapsed();
    SPENT.with_borrow_mut(|spent| {
        if let Some(spent) = spent {
            let (calls, sum) = spent.entry(operation).or_default();
            *calls += 1;
            *sum += time;
        }
    });
    value
}
