//! How one parameter is updated.

use std::fmt::Debug;

use dfdx::dtypes::Dtype;
use dfdx::tensor::Storage;

use crate::backend::Backend;
use crate::bridge::ViewMut;
use crate::error::Result;

/// An update in one pass over memory, with its hyperparameters: [`AdamConfig`](super::AdamConfig) or
/// [`SgdConfig`](super::SgdConfig).
pub trait UpdateRule: Copy + Debug {
    /// Checks every hyperparameter against its range.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for the first outside its range.
    fn check(&self) -> Result<()>;

    /// The learning rate.
    fn lr(&self) -> f64;

    /// Sets the learning rate.
    fn set_lr(&mut self, lr: f64);

    /// PyTorch's names of what is kept of each parameter, of its size, zeros at first.
    fn buffers(&self) -> &'static [&'static str];

    /// Updates the weights `w` and the `buffers` with the gradient `g`, whose sum of squares it returns
    /// where the device has it.
    ///
    /// # Errors
    /// Those of the device.
    fn update<E: Dtype, D: Backend<E>>(
        &self,
        update: &Update,
        w: ViewMut<'_, E, D>,
        buffers: &mut [<D as Storage<E>>::Vec],
        g: ViewMut<'_, E, D>,
    ) -> Result<Option<f64>>;

    /// Begins a step's updates: those that a step has left which did not come to its end are forgotten.
    fn begin<E: Dtype, D: Backend<E>>() {}

    /// Ends a step's updates: a device may have waited with them, to do many at once. Until then weights, buffers
    /// and gradients stay where they are.
    ///
    /// # Errors
    /// Those of the device.
    fn finish<E: Dtype, D: Backend<E>>() -> Result<()> {
        Ok(())
    }
}

/// What differs between the updates of one step, or of one parameter.
#[derive(Debug)]
pub struct Update {
    /// The parameter's number of updates after this one, from 1.
    pub(super) number: u64,
    /// What the learning rate is multiplied by.
    pub(super) lr_factor: f64,
    /// Another weight decay than the rule's.
    pub(super) weight_decay: Option<f64>,
    /// What the gradient is multiplied by before it is used.
    pub(super) scale: f64,
    /// Whether to leave zeros in the gradient.
    pub(super) zero_grad: bool,
}
