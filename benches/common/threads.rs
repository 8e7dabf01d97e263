//! The number of threads.

/// Runs `f` on as many threads as `RAYON_NUM_THREADS` says, or else on `default`.
pub fn on_threads<R: Send>(default: usize, f: impl FnOnce() -> R + Send) -> R {
    let threads = match std::env::var_os("RAYON_NUM_THREADS") {
        None => Some(default),
        Some(_) => None,
    };
    ssprop::on_threads(threads, f).expect("threads can be started")
}
