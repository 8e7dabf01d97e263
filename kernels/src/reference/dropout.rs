//! Dropout in plain loops: what the kernels are held against.

use num_traits::Float;

/// x times `scale` where `kept`, 0 elsewhere
pub fn forward<E: Float>(kept: &[bool], scale: E, x: &[E]) -> Vec<E> {
    let pairs = kept.iter().zip(x);
    pairs
        .map(|(&kept, &x)| if kept { x * scale } else { E::zero() })
        .collect()
}

/// dy times `scale` where `kept`, 0 elsewhere
pub fn backward<E: Float>(kept: &[bool], scale: E, dy: &[E]) -> Vec<E> {
    forward(kept, scale, dy)
}
