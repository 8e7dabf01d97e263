//! What a trainer asks of an optimizer.

use dfdx::dtypes::Dtype;
use dfdx::tensor::{Gradients, Storage};

use super::OptimizerState;
use crate::error::Result;

/// An optimizer of models `M`: [`Adam`](super::Adam), [`Sgd`](super::Sgd), or one of your own, for
/// [`Trainer::with_optimizer`](crate::train::Trainer::with_optimizer).
///
/// ```
/// use dfdx::optim::{Optimizer as _, RMSprop};
/// use ssprop::optim::{Optimizer, OptimizerState};
/// use ssprop::prelude::*;
///
/// /// dfdx's RMSprop, which keeps its state to itself.
/// struct Rms<M>(RMSprop<M, f32, Cpu>);
///
/// impl<M: TensorCollection<f32, Cpu>> Optimizer<M, f32, Cpu> for Rms<M> {
///     fn step(&mut self, model: &mut M, grads: &mut Gradients<f32, Cpu>, scale: f64) -> ssprop::Result<()> {
///         // The gradients may be the sum of several batches' that a trainer accumulated.
///         ssprop::optim::scale_gradients(model, grads, scale)?;
///         self.0.update(model, grads).map_err(|err| ssprop::Error::device(format!("{err:?}")))?;
///         model.zero_grads(grads);
///         Ok(())
///     }
///     fn lr(&self) -> f64 {
///         self.0.cfg.lr
///     }
///     fn set_lr(&mut self, lr: f64) -> ssprop::Result<()> {
///         self.0.cfg.lr = lr;
///         Ok(())
///     }
///     fn state(&self, _: &M) -> ssprop::Result<OptimizerState<f32>> {
///         Ok(OptimizerState::default())
///     }
///     fn restore(&mut self, _: &M, _: OptimizerState<f32>) -> ssprop::Result<()> {
///         Ok(())
///     }
/// }
///
/// let model = Cpu::default().build_module::<Linear<3, 2>, f32>();
/// let rms = Rms(RMSprop::new(&model, Default::default()));
/// let trainer = Trainer::with_optimizer(model, rms);
/// assert_eq!(trainer.optimizer.lr(), 1e-2);
/// ```
pub trait Optimizer<M, E: Dtype, D: Storage<E>> {
    /// Updates the model's parameters with `scale` times the gradients, and leaves zeros in these, so
    /// that the next backward pass can add to them.
    ///
    /// # Errors
    /// [`Error::UnusedParameters`](crate::Error::UnusedParameters) if parameters have no gradient;
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    fn step(&mut self, model: &mut M, grads: &mut Gradients<E, D>, scale: f64) -> Result<()>;

    /// The learning rate.
    fn lr(&self) -> f64;

    /// Sets the learning rate of the steps to come.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) if `lr` is negative or not finite.
    fn set_lr(&mut self, lr: f64) -> Result<()>;

    /// The norm of the last step's gradient, if it is known.
    fn grad_norm(&self) -> Option<f64> {
        None
    }

    /// A copy of what it keeps from step to step.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    fn state(&self, model: &M) -> Result<OptimizerState<E>>;

    /// Goes on from `state`. On an error it is as it was.
    ///
    /// # Errors
    /// For a state that does not fit the model, with the tensor's name.
    fn restore(&mut self, model: &M, state: OptimizerState<E>) -> Result<()>;

    /// Whether no parameter at or below a path (`layer1`, `layer1.0.conv1.weight`) is updated.
    fn is_frozen(&self, path: &str) -> bool {
        let _ = path;
        false
    }
}

/// An optimizer that is chosen at run time.
impl<M, E, D, O> Optimizer<M, E, D> for Box<O>
where
    E: Dtype,
    D: Storage<E>,
    O: Optimizer<M, E, D> + ?Sized,
{
    fn step(&mut self, model: &mut M, grads: &mut Gradients<E, D>, scale: f64) -> Result<()> {
        (**self).step(model, grads, scale)
    }

    fn lr(&self) -> f64 {
        (**self).lr()
    }

    fn set_lr(&mut self, lr: f64) -> Result<()> {
        (**self).set_lr(lr)
    }

    fn grad_norm(&self) -> Option<f64> {
        (**self).grad_norm()
    }

    fn state(&self, model: &M) -> Result<OptimizerState<E>> {
        (**self).state(model)
    }

    fn restore(&mut self, model: &M, state: OptimizerState<E>) -> Result<()> {
        (**self).restore(model, state)
    }

    fn is_frozen(&self, path: &str) -> bool {
        (**self).is_frozen(path)
    }
}
