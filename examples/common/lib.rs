//! What the training examples share: progress, records of epochs, curves, folders, sweeps of runs.

pub mod args;
pub mod curves;
pub mod ddpm;
pub mod device;
pub mod grid;
pub mod history;
pub mod output;
pub mod profile;
pub mod progress;
pub mod small;
pub mod statistics;
pub mod svg;
pub mod sweep;
