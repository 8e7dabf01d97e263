//! Group normalisation in plain loops: what the kernels are held against.

use num_traits::Float;

use super::silu;
use crate::args::group_norm::Activation;

/// What a pass is given.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a, E> {
    /// B, C and H * W.
    pub dims: [usize; 3],
    /// The groups of channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Applied last.
    pub activation: Activation,
    /// (B, C, H * W)
    pub x: &'a [E],
    /// (B, C); zeros are as good as none.
    pub shift: &'a [E],
    /// (C)
    pub weight: &'a [E],
    /// (C)
    pub bias: &'a [E],
}

/// The gradients that the backward pass returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Backward<E> {
    /// With respect to x, (B, C, H * W).
    pub dx: Vec<E>,
    /// With respect to the shift, (B, C).
    pub dshift: Vec<E>,
    /// With respect to the weight, (C).
    pub dweight: Vec<E>,
    /// With respect to the bias, (C).
    pub dbias: Vec<E>,
}

/// One group of one image.
struct Group<E> {
    /// Of its elements.
    indices: Vec<usize>,
    mean: E,
    /// sqrt(var + eps)
    std: E,
}

impl<E: Float> Input<'_, E> {
    /// The place in (B, C) that element `i` belongs to.
    fn place(&self, i: usize) -> usize {
        i / self.dims[2]
    }

    fn channel(&self, i: usize) -> usize {
        self.place(i) % self.dims[1]
    }

    /// x + shift
    fn shifted(&self, i: usize) -> E {
        self.x[i] + self.shift[self.place(i)]
    }

    fn all_groups(&self) -> Vec<Group<E>> {
        let run = self.dims[1] / self.groups * self.dims[2];
        let count = E::from(run).unwrap();
        (0..self.dims[0] * self.groups)
            .map(|g| {
                let indices: Vec<usize> = (g * run..(g + 1) * run).collect();
                let sum = indices.iter().fold(E::zero(), |s, &i| s + self.shifted(i));
                let mean = sum / count;
                let square = |i| (self.shifted(i) - mean).powi(2);
                let m2 = indices.iter().fold(E::zero(), |s, &i| s + square(i));
                let std = (m2 / count + E::from(self.eps).unwrap()).sqrt();
                Group { indices, mean, std }
            })
            .collect()
    }

    /// What the activation is applied to.
    fn z(&self, group: &Group<E>, i: usize) -> E {
        let c = self.channel(i);
        self.weight[c] * ((self.shifted(i) - group.mean) / group.std) + self.bias[c]
    }
}

/// y = f(weight (x + shift - mean) / sqrt(var + eps) + bias)
pub fn forward<E: Float>(input: &Input<'_, E>) -> Vec<E> {
    let mut z = vec![E::zero(); input.x.len()];
    for group in input.all_groups() {
        for &i in &group.indices {
            z[i] = input.z(&group, i);
        }
    }
    match input.activation {
        Activation::Identity => z,
        Activation::SiLU => silu::forward(&z),
    }
}

/// The gradients for `dy`, by the chain rule through the mean and the variance one after the other.
pub fn backward<E: Float>(input: &Input<'_, E>, dy: &[E]) -> Backward<E> {
    let two = E::one() + E::one();
    let channels = input.dims[1];
    let mut dx = vec![E::zero(); dy.len()];
    let mut dshift = vec![E::zero(); input.dims[0] * channels];
    let (mut dweight, mut dbias) = (vec![E::zero(); channels], vec![E::zero(); channels]);
    for group in input.all_groups() {
        let Group { indices, mean, std } = &group;
        let count = E::from(indices.len()).unwrap();
        let (mut dmean, mut dvar) = (E::zero(), E::zero());
        let dz = |i: usize| match input.activation {
            Activation::Identity => dy[i],
            Activation::SiLU => dy[i] * silu::derivative(input.z(&group, i)),
        };
        for &i in indices {
            let (c, dz, centred) = (input.channel(i), dz(i), input.shifted(i) - *mean);
            dbias[c] = dbias[c] + dz;
            dweight[c] = dweight[c] + dz * centred / *std;
            dmean = dmean - dz * input.weight[c] / *std;
            dvar = dvar - dz * input.weight[c] * centred / (two * std.powi(3));
        }
        for &i in indices {
            let centred = input.shifted(i) - *mean;
            let direct = dz(i) * input.weight[input.channel(i)] / *std;
            dx[i] = direct + dmean / count + dvar * two * centred / count;
            let place = input.place(i);
            dshift[place] = dshift[place] + dx[i];
        }
    }
    Backward {
        dx,
        dshift,
        dweight,
        dbias,
    }
}
