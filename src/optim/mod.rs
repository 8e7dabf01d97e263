//! Optimizers whose state can be read and restored, and what goes with them.
//!
//! [`Adam`] and [`Sgd`] update a parameter in one pass over memory. A
//! [`Trainer`](crate::train::Trainer) takes them, or anything else that is an [`Optimizer`]; in a loop of
//! your own they are used as dfdx's are (they implement its
//! [`Optimizer`](dfdx::optim::Optimizer) too). [`ParameterGroups`] trains some parameters otherwise than
//! the others, [`LrSchedule`] changes the learning rate, [`clip_grad_norm`] and [`clip_grad_value`] keep
//! gradients small, and [`Ema`] averages a model's weights.
//!
//! State is kept by the parameters' path names (`layer1.0.conv1.weight`), not by dfdx's tensor
//! ids, so that it fits a model that was built anew.

mod adam;
mod clip;
mod ema;
mod fused;
mod groups;
mod lr_schedule;
mod optimizer;
mod presence;
mod rule;
mod saved;
mod sgd;
mod state;

pub use adam::{Adam, AdamConfig};
pub(crate) use clip::Clip;
pub use clip::{clip_grad_norm, clip_grad_value, grad_norm, scale_gradients};
pub use ema::Ema;
pub use fused::FusedOptimizer;
pub use groups::ParameterGroups;
pub use lr_schedule::LrSchedule;
pub use optimizer::Optimizer;
pub(crate) use rule::UpdateRule;
pub use sgd::{Sgd, SgdConfig};
pub use state::{AdamState, OptimizerState, ParameterState};
