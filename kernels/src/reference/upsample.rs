//! Upsampling in plain loops: what the kernels are held against.

use num_traits::Float;

/// y of planes of `[h, w]` pixels
pub fn forward<E: Float>([h, w]: [usize; 2], x: &[E]) -> Vec<E> {
    let mut y = vec![E::zero(); 4 * x.len()];
    for (i, y) in y.iter_mut().enumerate() {
        let (plane, row, column) = (i / (4 * h * w), i / (2 * w) % (2 * h), i % (2 * w));
        *y = x[(plane * h + row / 2) * w + column / 2];
    }
    y
}

/// dx
pub fn backward<E: Float>([h, w]: [usize; 2], dy: &[E]) -> Vec<E> {
    let mut dx = vec![E::zero(); dy.len() / 4];
    for (i, &dy) in dy.iter().enumerate() {
        let (plane, row, column) = (i / (4 * h * w), i / (2 * w) % (2 * h), i % (2 * w));
        let dx = &mut dx[(plane * h + row / 2) * w + column / 2];
        *dx = *dx + dy;
    }
    dx
}
