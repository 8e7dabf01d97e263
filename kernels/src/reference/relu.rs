//! ReLU in plain loops: what the kernels are held against.

use num_traits::Float;

/// max(x, 0)
pub fn forward<E: Float>(x: &[E]) -> Vec<E> {
    x.iter().map(|x| x.max(E::zero())).collect()
}

/// dy where x is above 0
pub fn backward<E: Float>(x: &[E], dy: &[E]) -> Vec<E> {
    let pass = |(&x, &dy)| if x > E::zero() { dy } else { E::zero() };
    x.iter().zip(dy).map(pass).collect()
}
