//! The sum with ReLU in plain loops: what the kernels are held against.

use num_traits::Float;

/// max(a + b, 0)
pub fn forward<E: Float>(a: &[E], b: &[E]) -> Vec<E> {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| (a + b).max(E::zero()))
        .collect()
}

/// dy where a + b is above 0: the gradient of either term
pub fn backward<E: Float>(a: &[E], b: &[E], dy: &[E]) -> Vec<E> {
    let open = a.iter().zip(b).map(|(&a, &b)| a + b > E::zero());
    open.zip(dy)
        .map(|(open, &dy)| if open { dy } else { E::zero() })
        .collect()
}
