//! Pooling in plain loops: what the kernels are held against.

use num_traits::Float;

use crate::args::pool::Pool2DOp;

/// The elements of the image that window (oh, ow) of a plane covers, as indices into the plane.
fn window(op: &Pool2DOp, oh: usize, ow: usize) -> Vec<usize> {
    let mut indices = Vec::new();
    for kh in 0..op.kernel {
        for kw in 0..op.kernel {
            let h = (oh * op.stride + kh) as isize - op.padding as isize;
            let w = (ow * op.stride + kw) as isize - op.padding as isize;
            if h >= 0 && w >= 0 && h < op.input[0] as isize && w < op.input[1] as isize {
                indices.push(h as usize * op.input[1] + w as usize);
            }
        }
    }
    indices
}

/// Calls `f` with each output's index and with the inputs' indices of its window.
fn for_each_window(op: &Pool2DOp, planes: usize, mut f: impl FnMut(usize, Vec<usize>)) {
    let [height, width] = op.output;
    for plane in 0..planes {
        for oh in 0..height {
            for ow in 0..width {
                let first = plane * op.input[0] * op.input[1];
                let inputs = window(op, oh, ow).iter().map(|i| first + i).collect();
                f((plane * height + oh) * width + ow, inputs);
            }
        }
    }
}

/// The index of the first of the largest elements.
fn argmax<E: Float>(x: &[E], window: &[usize]) -> usize {
    let mut best = window[0];
    for &i in window {
        if x[i] > x[best] || x[i].is_nan() {
            best = i;
        }
    }
    best
}

/// The maxima.
pub fn max_forward<E: Float>(op: &Pool2DOp, planes: usize, x: &[E]) -> Vec<E> {
    let mut y = vec![E::zero(); planes * op.output[0] * op.output[1]];
    for_each_window(op, planes, |o, window| y[o] = x[argmax(x, &window)]);
    y
}

/// The gradient of the maxima with respect to x.
pub fn max_backward<E: Float>(op: &Pool2DOp, planes: usize, x: &[E], dy: &[E]) -> Vec<E> {
    let mut dx = vec![E::zero(); x.len()];
    for_each_window(op, planes, |o, window| {
        let i = argmax(x, &window);
        dx[i] = dx[i] + dy[o];
    });
    dx
}

/// The averages.
pub fn avg_forward<E: Float>(op: &Pool2DOp, planes: usize, x: &[E]) -> Vec<E> {
    let size = E::from(op.kernel * op.kernel).unwrap();
    let mut y = vec![E::zero(); planes * op.output[0] * op.output[1]];
    for_each_window(op, planes, |o, window| {
        y[o] = window.iter().fold(E::zero(), |s, &i| s + x[i]) / size;
    });
    y
}

/// The gradient of the averages with respect to x.
pub fn avg_backward<E: Float>(op: &Pool2DOp, planes: usize, dy: &[E]) -> Vec<E> {
    let size = E::from(op.kernel * op.kernel).unwrap();
    let mut dx = vec![E::zero(); planes * op.input[0] * op.input[1]];
    for_each_window(op, planes, |o, window| {
        for i in window {
            dx[i] = dx[i] + dy[o] / size;
        }
    });
    dx
}
