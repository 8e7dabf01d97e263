//! What a step's operations tell the other ranks of a distributed training, while it lasts.
//!
//! dfdx's hooks get the gradients and nothing else, so they find the exchange in their thread.

use std::cell::RefCell;
use std::sync::Arc;

use crate::error::Result;

/// The other ranks of a training, as a step's operations see them. All ranks go through the same
/// operations in the same order.
pub trait Exchange {
    /// Adds each value to those of the other ranks: afterwards all ranks have the same sums. Waits for it.
    ///
    /// # Errors
    /// [`Error::Distributed`](crate::Error::Distributed) if a rank is lost.
    fn sum(&self, values: &mut [f64]) -> Result<()>;

    /// The share of the whole batch's images that this rank has. 0 if it has none left, and only runs a
    /// duplicate to stay in step.
    fn share(&self) -> f64;

    /// An operation has used the parameter at this address, and its hook will tell of the gradient.
    fn used(&self, parameter: usize);

    /// A hook has written the gradient of a parameter that lies at this address: to these rows of its first
    /// dimension, or to all.
    ///
    /// # Errors
    /// [`Error::Distributed`](crate::Error::Distributed) if a rank is lost.
    fn written(&self, gradient: usize, values: &[f32], rows: Option<&[usize]>) -> Result<()>;
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Exchange>>> = const { RefCell::new(None) };
}

/// The exchange of the step that this thread makes, if others take part in it.
pub fn current() -> Option<Arc<dyn Exchange>> {
    CURRENT.with_borrow(Clone::clone)
}

/// The mean of `importance` over all ranks' images, if others take part.
///
/// # Errors
/// As [`Exchange::sum`].
pub fn mean_importance(mut importance: Vec<f64>) -> Result<Vec<f64>> {
    if let Some(exchange) = current() {
        let share = exchange.share();
        importance.iter_mut().for_each(|value| *value *= share);
        exchange.sum(&mut importance)?;
    }
    Ok(importance)
}

/// As long as it lives, the thread's operations find an exchange.
pub struct Installed(());

impl Installed {
    /// Lets this thread's operations find `exchange`.
    pub fn new(exchange: Arc<dyn Exchange>) -> Self {
        CURRENT.set(Some(exchange));
        Self(())
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}
