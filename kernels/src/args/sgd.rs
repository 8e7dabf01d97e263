//! One step of SGD.

/// The hyperparameters, and what changes from step to step.
#[derive(Debug, Clone, Copy)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Share of the momentum buffer that is kept.
    pub momentum: f64,
    /// Share of the gradient that the momentum buffer does not get.
    pub dampening: f64,
    /// Whether the weight moves along the gradient and the new buffer.
    pub nesterov: bool,
    /// Weight decay, a term of the gradient.
    pub weight_decay: f64,
    /// The number of updates that the parameter will have had after this one, from 1.
    pub step: u64,
    /// What the gradient is multiplied by before it is used.
    pub grad_scale: f64,
    /// Whether to leave zeros in the gradient.
    pub zero_grad: bool,
}

impl SgdStep {
    /// What the buffer and the gradient are multiplied by to give the new buffer: the first gradient is
    /// the first buffer, whatever the dampening.
    pub fn buffer_factors(&self) -> [f64; 2] {
        match self.step {
            0 | 1 => [0.0, 1.0],
            _ => [self.momentum, 1.0 - self.dampening],
        }
    }
}
