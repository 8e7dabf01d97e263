//! The threads that training runs on.

mod launcher;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rayon::Yield;

use crate::error::{Error, Result};
pub(crate) use launcher::{launched, Launched};

/// How long an idle thread spins, looking for work.
const SPIN_TIME: Duration = Duration::from_millis(5);
/// The longest that it sleeps between looks after that: a tenth of the time that it has been idle, so
/// that a waiting program costs next to nothing.
const MAX_SLEEP: Duration = Duration::from_millis(10);
/// Room for a program's arrays (`tensor.array()` of a batch, with the copies that a call makes of it).
/// A thread's own would be 2 MiB, the main thread's are 8. Only what is used takes memory.
const STACK: usize = 64 << 20;

/// Runs `f` on a pool of `threads` threads (one a core if `None`, or as many as the environment
/// variable `RAYON_NUM_THREADS` says; of several ranks on a host that `mpirun` has not bound to cores each
/// has its share of them), and returns what it returns.
///
/// Train inside of it even if you do not care how many threads there are: the kernels share work out hundreds
/// of times a step. A thread outside the pool is put to sleep and woken each time; one inside takes part, and
/// while `f` runs the pool's other threads look for work all the time instead of sleeping, too (after some
/// milliseconds without any, now and then: a program that waits costs next to nothing). Results are the same
/// for any number of threads, inside and outside. The threads start with what the caller has set for its own
/// (`use_tf32`, `use_cudnn`). When this returns, they have ended, and what they kept (workspaces, memory of a
/// CUDA device) is freed; jobs that `f` has left to rayon are waited for.
///
/// # Errors
/// [`Error::Parameter`] for 0 threads, [`Error::Device`] if they cannot be started.
///
/// ```
/// use ssprop::prelude::*;
///
/// let y = ssprop::on_threads(Some(2), || {
///     let dev = Cpu::default();
///     let conv = dev.build_module::<SparseConv2D<3, 8, 3, 1, 1>, f32>();
///     conv.forward(dev.zeros::<Rank4<1, 3, 8, 8>>()).as_vec()
/// })?;
/// assert_eq!(y.len(), 8 * 64);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn on_threads<R: Send>(threads: Option<usize>, f: impl FnOnce() -> R + Send) -> Result<R> {
    if threads == Some(0) {
        return Err(Error::parameter("threads", 0, "at least 1"));
    }
    let is_set = || std::env::var_os("RAYON_NUM_THREADS").is_some();
    let threads = threads.or_else(|| launcher::share_of_cores().filter(|_| !is_set()));
    // Before the pool, so that it is dropped after it.
    let mut ends = Ends::default();
    let take_over = settings();
    let pool = rayon::ThreadPoolBuilder::new()
        // 0 is rayon's word for its default.
        .num_threads(threads.unwrap_or(0))
        .spawn_handler(|thread| {
            let builder = std::thread::Builder::new().stack_size(STACK);
            let run = move || {
                take_over();
                thread.run();
            };
            ends.0.push(builder.spawn(run)?);
            Ok(())
        })
        .build()
        .map_err(Error::device)?;
    Ok(pool.install(|| {
        let _awake = Awake::keep();
        f()
    }))
}

/// Gives another thread what this one's convolutions on CUDA devices are set to.
fn settings() -> impl Fn() + Copy + Send {
    #[cfg(feature = "cuda")]
    let tf32 = crate::kernels::cuda::tf32();
    #[cfg(feature = "cudnn")]
    let cudnn = crate::kernels::cuda::uses_cudnn();
    move || {
        #[cfg(feature = "cuda")]
        crate::kernels::cuda::use_tf32(tf32);
        #[cfg(feature = "cudnn")]
        crate::kernels::cuda::use_cudnn(cudnn);
    }
}

/// Waits, when it is dropped, until threads have ended. rayon only tells a pool's to: what they keep of a CUDA device
/// could be freed after the driver is gone, at the end of the program.
#[derive(Default)]
struct Ends(Vec<JoinHandle<()>>);

impl Drop for Ends {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            // rayon ends the process where one of its threads panics.
            let _ = thread.join();
        }
    }
}

/// While it lives, the pool's other threads look for work instead of going to sleep.
///
/// Waking a thread takes some 50 microseconds, which is as long as many an operation on a small
/// batch takes.
struct Awake(Arc<AtomicBool>);

impl Awake {
    /// To be called on a thread of the pool.
    fn keep() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (own, flag) = (rayon::current_thread_index(), over.clone());
        rayon::spawn_broadcast(move |context| {
            if Some(context.index()) != own {
                look_for_work(&flag);
            }
        });
        Self(over)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Takes part in what the other threads share out, until it is `over`.
fn look_for_work(over: &AtomicBool) {
    let mut idle_since = None;
    while !over.load(Ordering::Relaxed) {
        if rayon::yield_now() == Some(Yield::Executed) {
            idle_since = None;
            continue;
        }
        let idle = idle_since.get_or_insert_with(Instant::now).elapsed();
        if idle < SPIN_TIME {
            std::hint::spin_loop();
        } else {
            // The program does something else: reads files, or waits for its user.
            std::thread::sleep((idle / 10).min(MAX_SLEEP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn threads_that_look_for_work_take_it_and_stop_in_the_end() {
        let sum = on_threads(Some(3), || {
            // Long enough for the others to nap.
            std::thread::sleep(4 * SPIN_TIME);
            (0..1000u64).into_par_iter().map(|i| i * i).sum::<u64>()
        });
        assert_eq!(sum.unwrap(), 332_833_500);
        // One that fails leaves none behind: the next call would not return.
        let failed = std::panic::catch_unwind(|| on_threads(Some(2), || panic!("on purpose")));
        assert!(failed.is_err());
        assert_eq!(on_threads(Some(1), || 1).unwrap(), 1);
        let nested = on_threads(Some(2), || on_threads(Some(2), || 2).unwrap());
        assert_eq!(nested.unwrap(), 2);
    }

    #[test]
    fn threads_have_ended_when_it_returns() {
        static FREED: AtomicBool = AtomicBool::new(false);
        struct Kept;
        impl Drop for Kept {
            fn drop(&mut self) {
                std::thread::sleep(Duration::from_millis(100));
                FREED.store(true, Ordering::Relaxed);
            }
        }
        thread_local!(static KEPT: Kept = const { Kept });
        on_threads(Some(1), || KEPT.with(|_| ())).unwrap();
        assert!(FREED.load(Ordering::Relaxed));
    }

    #[test]
    fn runs_on_as_many_threads_as_asked_for() {
        for threads in [1, 3] {
            let found = on_threads(Some(threads), rayon::current_num_threads);
            assert_eq!(found.unwrap(), threads);
        }
        let inside = on_threads(None, rayon::current_thread_index).unwrap();
        assert!(inside.is_some());
        let err = on_threads(Some(0), || ()).unwrap_err().to_string();
        assert!(err.contains("threads") && err.contains('0'), "{err}");
    }
}
