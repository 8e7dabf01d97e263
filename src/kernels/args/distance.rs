//! Distances of an output from its target.

/// What is averaged over all elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Distance {
    /// |output - target|
    L1,
    /// (output - target)^2
    #[default]
    L2,
}
