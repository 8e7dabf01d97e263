//! What a device does for the optimizer.

use dfdx::dtypes::Dtype;
use dfdx::shapes::Shape;
use dfdx::tensor::{Storage, Tensor};

use super::AdamConfig;
use crate::error::Result;

/// One step of Adam: the hyperparameters and what changes from step to step.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// The hyperparameters.
    pub cfg: AdamConfig,
    /// t, the number of updates that the parameter will have had after this one, from 1.
    pub step: u64,
    /// Whether to leave zeros in the gradient.
    pub zero_grad: bool,
}

impl AdamStep {
    /// 1 - beta^t for both moments: what they are divided by to undo their start at zero.
    pub fn bias_corrections(&self) -> [f64; 2] {
        self.cfg.betas.map(|beta| 1.0 - beta.powf(self.step as f64))
    }
}

/// A device that can run Adam, and average its results, on elements of type `E`.
pub trait AdamKernel<E: Dtype>: Storage<E> {
    /// Updates `param` of n elements, and its moments m and v of n elements, with its gradient g
    /// of n elements:
    ///
    /// - decoupled decay: w = (1 - lr decay) w; otherwise g = g + decay w
    /// - m = beta1 m + (1 - beta1) g
    /// - v = beta2 v + (1 - beta2) g^2
    /// - w = w - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `param` is not contiguous or the buffers' lengths
    /// differ from its own, [`Error::Device`](crate::Error::Device) if the device fails.
    fn adam_update<S: Shape>(
        &self,
        step: &AdamStep,
        param: &mut Tensor<S, E, Self>,
        exp_avg: &mut Self::Vec,
        exp_avg_sq: &mut Self::Vec,
        grad: &mut Self::Vec,
    ) -> Result<()>;

    /// Moves each of n averages towards its parameter w: average = average + rate (w - average).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the two shapes differ or one is not contiguous,
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    fn ema_update<S: Shape>(
        &self,
        rate: f64,
        average: &mut Tensor<S, E, Self>,
        param: &Tensor<S, E, Self>,
    ) -> Result<()>;

    /// A copy of the buffer in the host's memory.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    fn buffer_to_host(&self, buffer: &Self::Vec) -> Result<Vec<E>>;

    /// A buffer with the elements of `host`.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    fn buffer_from_host(&self, host: &[E]) -> Result<Self::Vec>;
}
