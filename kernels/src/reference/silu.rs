//! SiLU in plain loops: what the kernels are held against.

use num_traits::Float;

fn sigmoid<E: Float>(x: E) -> E {
    E::one() / (E::one() + (-x).exp())
}

/// x sigmoid(x)
pub fn forward<E: Float>(x: &[E]) -> Vec<E> {
    x.iter().map(|&x| x * sigmoid(x)).collect()
}

/// The derivative of SiLU at `x`.
pub fn derivative<E: Float>(x: E) -> E {
    let s = sigmoid(x);
    s + x * s * (E::one() - s)
}

/// dy times the derivative at x.
pub fn backward<E: Float>(x: &[E], dy: &[E]) -> Vec<E> {
    x.iter()
        .zip(dy)
        .map(|(&x, &dy)| dy * derivative(x))
        .collect()
}
