//! The number of threads.

/// Sets rayon's threads to `RAYON_NUM_THREADS`, or else to `default`.
pub fn set_threads(default: usize) {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        rayon::ThreadPoolBuilder::new()
            .num_threads(default)
            .build_global()
            .expect("the pool is not built before");
    }
}
