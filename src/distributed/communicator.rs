//! A rank's way to the others.

use std::fmt::Display;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::{Command, Counters, Engine, Outcome};
use super::local::Local;
use super::transport::Transport;
use crate::error::{Error, Result};
use crate::threads::{launched, Launched};

/// How long a rank may be silent unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a program waits for the others to come to their ends where something has failed.
const FAREWELL: Duration = Duration::from_secs(5);

/// The processes that train a network together, as one of them, its rank, sees them. A clone is the same
/// rank.
///
/// All ranks have to make the same calls in the same order, of this type's methods and of a
/// [`Trainer`](crate::train::Trainer)'s that it was given to. A rank that ends, or does not answer for 60
/// seconds ([`set_timeout`](Self::set_timeout)), or answers but does not come to a call for ten times as
/// long, makes the others' calls return an [`Error::Distributed`] that names it.
///
/// ```
/// use ssprop::distributed::Communicator;
///
/// // Four ranks in this process. (A program that mpirun starts has its rank `from_environment`.)
/// let ranks = Communicator::threads(4)?.into_iter().map(|communicator| {
///     std::thread::spawn(move || {
///         let mut values = [communicator.rank() as f64, 1.0];
///         communicator.sum(&mut values).map(|()| values)
///     })
/// });
/// for rank in ranks.collect::<Vec<_>>() {
///     assert_eq!(rank.join().unwrap()?, [6.0, 4.0]);
/// }
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Communicator(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    rank: usize,
    size: usize,
    commands: Mutex<Sender<Command>>,
    counters: Arc<Counters>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a rank has sent to the others so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Their bytes, without what a network adds to each.
    pub bytes: u64,
}

impl Communicator {
    /// That of a program that trains by itself.
    pub fn alone() -> Self {
        Self(None)
    }

    /// The ranks that this process was started with: by `mpirun`, or alone.
    ///
    /// # Errors
    /// [`Error::Distributed`] if there are several and this program was built without the feature `mpi`,
    /// or if MPI cannot be started.
    pub fn from_environment() -> Result<Self> {
        match launched() {
            Some(launched) if launched.size > 1 => start(launched),
            _ => Ok(Self::alone()),
        }
    }

    /// `size` ranks within this process, for a thread each.
    ///
    /// # Errors
    /// [`Error::Parameter`] for 0 ranks; [`Error::Device`] if no thread can be started.
    pub fn threads(size: usize) -> Result<Vec<Self>> {
        if size == 0 {
            return Err(Error::parameter("ranks", size, "at least 1"));
        }
        let ranks = Local::group(size).into_iter().enumerate();
        let start =
            |(rank, local)| Self::start(rank, move || Ok(Box::new(local) as _)).map(|s| s.0);
        ranks.map(start).collect()
    }

    /// A rank whose transport `make` makes on the thread that uses it.
    pub(super) fn start(
        rank: usize,
        make: impl FnOnce() -> Result<Box<dyn Transport>> + Send + 'static,
    ) -> Result<(Self, Arc<OnceLock<Vec<String>>>)> {
        let (commands, receiver) = channel();
        let counters = Arc::new(Counters::default());
        let places = Arc::new(OnceLock::new());
        let (ready, made) = channel();
        let work = {
            let (counters, places) = (counters.clone(), places.clone());
            move || match make() {
                Ok(transport) => {
                    let _ = ready.send(Ok((transport.rank(), transport.size())));
                    Engine::new(transport, receiver, counters, places, TIMEOUT).run();
                }
                Err(err) => drop(ready.send(Err(err))),
            }
        };
        let thread = std::thread::Builder::new()
            .name("exchange".into())
            .spawn(work)
            .map_err(Error::device)?;
        let lost = |_| Error::Distributed {
            rank,
            message: "its thread has ended".into(),
        };
        let (rank, size) = made.recv().map_err(lost)??;
        let shared = Shared {
            rank,
            size,
            commands: Mutex::new(commands),
            counters,
            thread: Mutex::new(Some(thread)),
        };
        Ok((Self(Some(Arc::new(shared))), places))
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |shared| shared.rank)
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |shared| shared.size)
    }

    /// Whether this is the rank that writes files and prints.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there are no others.
    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// How long a rank may be silent.
    pub fn set_timeout(&self, timeout: Duration) {
        self.command(Command::Timeout(timeout));
    }

    /// What this rank has sent.
    pub fn traffic(&self) -> Traffic {
        let counters = self.0.as_ref().map(|shared| &shared.counters);
        counters.map_or(Traffic::default(), |counters| Traffic {
            messages: counters.messages.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
        })
    }

    /// The bytes of every rank, in their order.
    ///
    /// # Errors
    /// [`Error::Distributed`] if a rank is lost.
    pub fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        if self.is_alone() {
            return Ok(vec![bytes]);
        }
        let (reply, found) = channel();
        self.command(Command::Gather(bytes, reply));
        self.wait(&found)
    }

    /// Adds each value to those of the other ranks, in the order of the ranks: all have the same sums, to
    /// the bit.
    ///
    /// # Errors
    /// As [`gather`](Self::gather); [`Error::Distributed`] if another rank has another number of values.
    pub fn sum(&self, values: &mut [f64]) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        let found = self.gather(values.iter().flat_map(|v| v.to_le_bytes()).collect())?;
        let own = values.len();
        values.fill(0.0);
        for (rank, bytes) in found.iter().enumerate() {
            let (terms, rest) = bytes.as_chunks::<8>();
            if terms.len() != own || !rest.is_empty() {
                return Err(self.error(format!(
                    "rank {rank} adds {} numbers where this one adds {own}: it is at another step",
                    terms.len(),
                )));
            }
            for (sum, &term) in values.iter_mut().zip(terms) {
                *sum += f64::from_le_bytes(term);
            }
        }
        Ok(())
    }

    /// Whether a rank says `true`.
    ///
    /// # Errors
    /// As [`gather`](Self::gather).
    pub fn any(&self, flag: bool) -> Result<bool> {
        let mut count = [f64::from(u8::from(flag))];
        self.sum(&mut count)?;
        Ok(count[0] > 0.0)
    }

    /// The bytes of rank 0. Those of the others do not matter.
    ///
    /// # Errors
    /// As [`gather`](Self::gather).
    pub fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let own = if self.is_first() { bytes } else { Vec::new() };
        Ok(self.gather(own)?.swap_remove(0))
    }

    /// Tells the other ranks that this one ends with an error, which theirs then name. (One that ends
    /// without is told of as such.)
    pub fn end_with(&self, error: &dyn Display) {
        self.command(Command::End(error.to_string()));
    }

    /// Does what each rank can fail at by itself: fails on all if it does on one.
    ///
    /// # Errors
    /// That of `f` on the ranks where it fails, [`Error::Distributed`] on the others.
    pub fn together<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = f();
        if let (Err(err), false) = (&done, self.is_alone()) {
            self.end_with(err);
        }
        done
    }

    /// [`together`](Self::together) what the first rank alone does: writing a file, say.
    ///
    /// # Errors
    /// That of `f` on the first rank; the others have theirs at a later call.
    pub fn on_first(&self, f: impl FnOnce() -> Result<()>) -> Result<()> {
        match self.is_first() {
            true => self.together(f),
            false => Ok(()),
        }
    }

    /// Begins to add values; they come back through `reply` with their `index`.
    pub(super) fn begin_sum(
        &self,
        index: usize,
        values: Vec<f32>,
        reply: &Sender<Outcome<(usize, Vec<f32>)>>,
    ) {
        self.command(Command::Sum(index, values, reply.clone()));
    }

    /// Waits for what was asked for.
    pub(super) fn wait<T>(&self, reply: &Receiver<Outcome<T>>) -> Result<T> {
        let lost = || "the exchange with the other ranks has ended".to_owned();
        let found = reply.recv().unwrap_or_else(|_| Err(lost()));
        found.map_err(|message| self.error(message))
    }

    pub(super) fn error(&self, message: String) -> Error {
        Error::Distributed {
            rank: self.rank(),
            message,
        }
    }

    fn command(&self, command: Command) {
        if let Some(shared) = &self.0 {
            let commands = shared.commands.lock();
            // If the thread has ended, the reply does not come.
            let _ = commands
                .unwrap_or_else(PoisonError::into_inner)
                .send(command);
        }
    }
}

#[cfg(feature = "mpi")]
fn start(launched: Launched) -> Result<Communicator> {
    let make = || super::mpi::Mpi::start().map(|mpi| Box::new(mpi) as _);
    let (communicator, places) = Communicator::start(launched.rank, make)?;
    if communicator.size() != launched.size {
        return Err(communicator.error(format!(
            "started as one of {} processes, of which MPI sees {}: the launcher is of another MPI than this \
             program was built with",
            launched.size,
            communicator.size(),
        )));
    }
    let found = communicator.gather(place().into_bytes())?;
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    // Nobody else sets it.
    let _ = places.set(found.iter().map(text).collect());
    Ok(communicator)
}

/// Where this process runs, for messages.
#[cfg(feature = "mpi")]
fn place() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.unwrap_or_else(|_| "unknown host".into());
    format!("{}, process {}", host.trim(), std::process::id())
}

#[cfg(not(feature = "mpi"))]
fn start(launched: Launched) -> Result<Communicator> {
    Err(Error::Distributed {
        rank: launched.rank,
        message: format!(
            "{} processes were started together, but this program was built without MPI: add \
             --features mpi",
            launched.size,
        ),
    })
}

impl Drop for Shared {
    fn drop(&mut self) {
        let why = match std::thread::panicking() {
            true => "it panicked",
            false => "",
        };
        let commands = self
            .commands
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let _ = commands.send(Command::End(why.into()));
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = thread.take() else { return };
        // MPI's end waits for all ranks. If one is lost, not for ever.
        let begun = Instant::now();
        while !thread.is_finished() {
            let has_failed = self.counters.has_failed.load(Ordering::Relaxed);
            if has_failed && begun.elapsed() > FAREWELL {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}
