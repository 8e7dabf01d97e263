//! The batches of one epoch, made ahead by workers in the background.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::batch::Batch;
use super::plan::{Plan, Room};
use crate::error::Result;

/// The batches of one epoch, from [`BatchLoader::epoch`](super::BatchLoader::epoch).
///
/// The workers start at the first batch that is asked for, and stop when this is dropped.
pub struct Batches {
    plan: Arc<Plan>,
    next: usize,
    end: usize,
    /// An epoch without a batch still has its error to give.
    empty: bool,
    /// Whether an error has been given.
    failed: bool,
    workers: usize,
    prefetch: usize,
    crew: Option<Crew>,
    /// For batches that are made here.
    room: Room,
}

impl Batches {
    pub(super) fn new(plan: Arc<Plan>, end: usize, workers: usize, prefetch: usize) -> Self {
        Self {
            plan,
            next: 0,
            end,
            empty: end == 0,
            failed: false,
            workers: workers.min(prefetch),
            prefetch,
            crew: None,
            room: Room::default(),
        }
    }

    fn make(&mut self, number: usize) -> Result<Batch> {
        if self.crew.is_none() && self.workers > 0 {
            let crew = Crew::new(&self.plan, number, self.end, self.prefetch);
            self.crew = Some(crew.hire(self.workers));
        }
        // Without threads (if the system gives none) the batch is made here.
        if let Some(crew) = self.crew.as_ref().filter(|crew| !crew.threads.is_empty()) {
            return crew.take(number, self.prefetch);
        }
        let made = self
            .plan
            .batch(number, &mut self.room, &AtomicBool::new(false));
        made.unwrap_or_else(|| Err(self.plan.no_batch()))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.nth(0)
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        if std::mem::take(&mut self.empty) {
            return Some(Err(self.plan.no_batch()));
        }
        let number = self.next.saturating_add(n).min(self.end);
        self.next = (number + 1).min(self.end);
        (number < self.end).then(|| match self.make(number) {
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                // No more batches than are begun: the threads have something else to do.
                self.crew = None;
                Err(self.plan.first_of(error, number))
            }
            made => made,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.next + usize::from(self.empty);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}
impl FusedIterator for Batches {}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("next", &self.next)
            .field("end", &self.end)
            .field("workers", &self.workers)
            .field("prefetch", &self.prefetch)
            .finish_non_exhaustive()
    }
}

/// The workers of an epoch.
struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    plan: Arc<Plan>,
    state: Mutex<State>,
    /// A batch is ready, or one more may be made.
    changed: Condvar,
    stop: AtomicBool,
}

struct State {
    /// The next batch that nobody makes yet.
    next: usize,
    /// No batch from here on is to be made yet.
    limit: usize,
    end: usize,
    ready: BTreeMap<usize, thread::Result<Result<Batch>>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes batches until there are none left, or it is told to stop.
    fn work(&self) {
        let mut room = Room::default();
        loop {
            let mut state = self.lock();
            while state.next >= state.limit.min(state.end) && !self.stop.load(Ordering::Relaxed) {
                if state.next >= state.end {
                    return;
                }
                state = self.wait(state);
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let number = state.next;
            state.next += 1;
            drop(state);
            let make = || self.plan.batch(number, &mut room, &self.stop);
            let made = match catch_unwind(AssertUnwindSafe(make)) {
                Ok(None) => return,
                Ok(Some(batch)) => Ok(batch),
                // The thread that takes the batch panics in place of waiting for ever.
                Err(panic) => Err(panic),
            };
            self.lock().ready.insert(number, made);
            self.changed.notify_all();
        }
    }
}

impl Crew {
    fn new(plan: &Arc<Plan>, next: usize, end: usize, prefetch: usize) -> Self {
        let state = State {
            next,
            limit: next.saturating_add(prefetch),
            end,
            ready: BTreeMap::new(),
        };
        let shared = Shared {
            plan: plan.clone(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            threads: Vec::new(),
        }
    }

    fn hire(mut self, workers: usize) -> Self {
        for i in 0..workers {
            let shared = self.shared.clone();
            let named = thread::Builder::new().name(format!("images {i}"));
            // Fewer threads do as well.
            self.threads.extend(named.spawn(move || shared.work()));
        }
        self
    }

    /// Waits for a batch, and lets `prefetch` more be made. Those before it are given up.
    fn take(&self, number: usize, prefetch: usize) -> Result<Batch> {
        let mut state = self.shared.lock();
        state.ready = state.ready.split_off(&number);
        state.next = state.next.max(number);
        // While it is being made it counts as one of them.
        state.limit = state.limit.max(number.saturating_add(prefetch));
        self.shared.changed.notify_all();
        loop {
            if let Some(made) = state.ready.remove(&number) {
                state.limit = number.saturating_add(1).saturating_add(prefetch);
                drop(state);
                self.shared.changed.notify_all();
                return made.unwrap_or_else(|panic| resume_unwind(panic));
            }
            state = self.shared.wait(state);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Under the lock, so that no worker is between its check and its wait.
        drop(self.shared.lock());
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A worker's panics are caught where they are.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::{BatchLoader, ImageDataset, ImageShape};

    #[test]
    fn no_more_than_the_prefetch_is_made_ahead_and_dropping_stops_it() {
        let data = ImageDataset::new(vec![0; 100], vec![0; 100], ImageShape::new(1, 1, 1), 1);
        let data = data.unwrap();
        for (workers, prefetch) in [(1, 1), (2, 3), (5, 3)] {
            let loader = BatchLoader::new(&data, 2).unwrap();
            let mut batches = loader.workers(workers).prefetch(prefetch).epoch(0);
            assert!(
                batches.crew.is_none(),
                "nothing is made before it is asked for"
            );
            for skipped in [0, 3, 0] {
                batches.nth(skipped).unwrap().unwrap();
                let shared = batches.crew.as_ref().unwrap().shared.clone();
                let start = Instant::now();
                let all_ready = || {
                    let state = shared.lock();
                    assert!(state.ready.len() <= prefetch);
                    assert!(state.next <= batches.next + prefetch);
                    state.ready.len() == prefetch
                };
                while !all_ready() {
                    assert!(start.elapsed() < Duration::from_secs(20));
                    std::thread::yield_now();
                }
            }
            let plan = batches.plan.clone();
            drop(batches);
            assert_eq!(std::sync::Arc::strong_count(&plan), 1);
        }
    }
}
