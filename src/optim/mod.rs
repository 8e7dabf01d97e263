//! Optimizers behind dfdx's [`Optimizer`](dfdx::optim::Optimizer) trait whose state can be read
//! and restored.
//!
//! The state is kept by the parameters' path names (`layer1.0.conv1.weight`), not by dfdx's tensor
//! ids, so that it fits a model that was built anew. [`Ema`] averages a model's weights.

mod adam;
mod config;
mod ema;
mod lr_schedule;
mod presence;
mod state;

pub use adam::Adam;
pub use config::AdamConfig;
pub use ema::Ema;
pub use lr_schedule::LrSchedule;
pub use state::{AdamState, ParameterState};
