//! One step of Adam.

/// The hyperparameters, and what changes from step to step.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay rates of both moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether the decay shrinks the weight itself or is a term of the gradient.
    pub decoupled: bool,
    /// t, the number of updates that the parameter will have had after this one, from 1.
    pub step: u64,
    /// What the gradient is multiplied by before it is used.
    pub grad_scale: f64,
    /// Whether to leave zeros in the gradient.
    pub zero_grad: bool,
    /// Whether weights whose gradient is exactly 0 stay as they are, with their moments.
    pub lazy: bool,
}

impl AdamStep {
    /// 1 - beta^t for both moments: what they are divided by to undo their start at zero.
    pub fn bias_corrections(&self) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powf(self.step as f64))
    }
}
