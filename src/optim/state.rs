//! The state of an optimizer: what has to be kept for training to go on as if it had not stopped.

use std::collections::BTreeMap;

/// The state of one parameter, in the host's memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParameterState<E> {
    /// How many updates the parameter has had.
    pub step: u64,
    /// The parameter's shape, and that of every buffer.
    pub shape: Vec<usize>,
    /// What is kept of the parameter, in row-major order, by PyTorch's names: Adam's `exp_avg` (the
    /// running mean of the gradient) and `exp_avg_sq` (of its square), the `momentum_buffer` of SGD.
    pub buffers: BTreeMap<String, Vec<E>>,
}

/// The state of an [`Optimizer`](super::Optimizer), by the parameters' path names. The hyperparameters
/// are not part of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OptimizerState<E> {
    /// One entry a trainable parameter.
    pub parameters: BTreeMap<String, ParameterState<E>>,
}

/// [`OptimizerState`] by its former name.
pub type AdamState<E> = OptimizerState<E>;

/// A parameter's buffers on its device, in the order of [`UpdateRule::buffers`].
#[derive(Debug, Clone)]
pub(super) struct Slots<V> {
    pub(super) step: u64,
    pub(super) buffers: Vec<V>,
}
