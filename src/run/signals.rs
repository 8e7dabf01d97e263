//! SIGINT and SIGTERM, which end a run at the next step.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The signal that came, or 0. One for the process, as its signals are.
static CAME: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// From now on a first signal is kept for [`came`], and a second one ends the process as it would have.
pub(super) fn listen() {
    CAME.get_or_init(|| {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::flag;
        let came = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Actions run in this order. One that cannot be registered leaves the signal as it was.
            let _ = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again));
            let _ = flag::register(signal, Arc::clone(&again));
            let _ = flag::register_usize(signal, Arc::clone(&came), signal as usize);
        }
        came
    });
}

/// The number of the signal that came, if one did.
pub(super) fn came() -> Option<u8> {
    let signal = CAME.get().map_or(0, |came| came.load(Ordering::Relaxed));
    u8::try_from(signal).ok().filter(|&signal| signal > 0)
}
