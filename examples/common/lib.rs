//! What the training examples share: flags, pictures in grids, progress of other work, sweeps of runs.

pub mod args;
pub mod ddpm;
pub mod device;
pub mod grid;
pub mod optimization;
pub mod paper;
pub mod progress;
pub mod small;
pub mod statistics;
pub mod sweep;
pub mod table;
pub mod vit;

/// Prints a line; what cannot be printed (`| head`) does not end a run.
#[macro_export]
macro_rules! say {
    ($($line:tt)*) => {
        ssprop::run::say(format_args!($($line)*))
    };
}
