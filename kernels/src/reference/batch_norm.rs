//! Batch normalisation in plain loops: what the kernels are held against.

use num_traits::Float;

use crate::args::batch_norm::Activation;

/// What the forward pass returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward<E> {
    /// The output, (B, C, H * W).
    pub y: Vec<E>,
    /// The mean of each channel.
    pub mean: Vec<E>,
    /// The biased variance of each channel.
    pub var: Vec<E>,
}

/// The gradients that the backward pass returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Backward<E> {
    /// With respect to x, (B, C, H * W).
    pub dx: Vec<E>,
    /// With respect to the residual, (B, C, H * W).
    pub dresidual: Vec<E>,
    /// With respect to the weight, (C).
    pub dweight: Vec<E>,
    /// With respect to the bias, (C).
    pub dbias: Vec<E>,
}

fn elements(dims: [usize; 3], channel: usize) -> impl Iterator<Item = usize> {
    let [batch, channels, plane] = dims;
    (0..batch).flat_map(move |b| (0..plane).map(move |i| (b * channels + channel) * plane + i))
}

/// The mean and the biased variance of each channel of `x`, (B, C, H * W).
pub fn statistics<E: Float>(dims: [usize; 3], x: &[E]) -> (Vec<E>, Vec<E>) {
    let count = E::from(dims[0] * dims[2]).unwrap();
    (0..dims[1])
        .map(|c| {
            let sum = elements(dims, c).fold(E::zero(), |s, i| s + x[i]);
            let mean = sum / count;
            let m2 = elements(dims, c).fold(E::zero(), |s, i| s + (x[i] - mean).powi(2));
            (mean, m2 / count)
        })
        .unzip()
}

/// y = f(weight (x - mean) / sqrt(var + eps) + bias + residual)
#[allow(clippy::too_many_arguments)]
pub fn forward<E: Float>(
    dims: [usize; 3],
    activation: Activation,
    eps: f64,
    x: &[E],
    residual: Option<&[E]>,
    weight: &[E],
    bias: &[E],
    (mean, var): (Vec<E>, Vec<E>),
) -> Forward<E> {
    let mut y = vec![E::zero(); x.len()];
    for c in 0..dims[1] {
        let std = (var[c] + E::from(eps).unwrap()).sqrt();
        for i in elements(dims, c) {
            let mut z = weight[c] * ((x[i] - mean[c]) / std) + bias[c];
            if let Some(residual) = residual {
                z = z + residual[i];
            }
            y[i] = match activation {
                Activation::Identity => z,
                Activation::ReLU => z.max(E::zero()),
            };
        }
    }
    Forward { y, mean, var }
}

/// The gradients for `dy`, by the chain rule through the mean and the variance one after the other
/// if they are `of_the_batch`.
#[allow(clippy::too_many_arguments)]
pub fn backward<E: Float>(
    dims: [usize; 3],
    activation: Activation,
    eps: f64,
    x: &[E],
    weight: &[E],
    forward: &Forward<E>,
    of_the_batch: bool,
    dy: &[E],
) -> Backward<E> {
    let count = E::from(dims[0] * dims[2]).unwrap();
    let two = E::one() + E::one();
    let dz: Vec<E> = dy
        .iter()
        .zip(&forward.y)
        .map(|(&dy, &y)| match activation {
            Activation::ReLU if y <= E::zero() => E::zero(),
            _ => dy,
        })
        .collect();
    let mut dx = vec![E::zero(); x.len()];
    let (mut dweight, mut dbias) = (vec![E::zero(); dims[1]], vec![E::zero(); dims[1]]);
    for c in 0..dims[1] {
        let mean = forward.mean[c];
        let std = (forward.var[c] + E::from(eps).unwrap()).sqrt();
        let (mut dmean, mut dvar) = (E::zero(), E::zero());
        for i in elements(dims, c) {
            dbias[c] = dbias[c] + dz[i];
            dweight[c] = dweight[c] + dz[i] * (x[i] - mean) / std;
            dmean = dmean - dz[i] * weight[c] / std;
            dvar = dvar - dz[i] * weight[c] * (x[i] - mean) / (two * std.powi(3));
        }
        for i in elements(dims, c) {
            dx[i] = dz[i] * weight[c] / std;
            if of_the_batch {
                dx[i] = dx[i] + dmean / count + dvar * two * (x[i] - mean) / count;
            }
        }
    }
    Backward {
        dx,
        dresidual: dz,
        dweight,
        dbias,
    }
}
