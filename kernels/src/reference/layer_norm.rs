//! Layer normalisation in plain loops: what the kernels are held against.

use num_traits::Float;

/// What a pass is given.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a, E> {
    /// B, C and H * W.
    pub dims: [usize; 3],
    /// Added to the variance.
    pub eps: f64,
    /// (B, C, H * W)
    pub x: &'a [E],
    /// (C)
    pub weight: &'a [E],
    /// (C)
    pub bias: &'a [E],
}

impl<E: Float> Input<'_, E> {
    /// The indices of the channels of each position of each image, with their mean and sqrt(var + eps).
    fn positions(&self) -> Vec<(Vec<usize>, E, E)> {
        let [batch, channels, plane] = self.dims;
        let count = E::from(channels).unwrap();
        let one = |b: usize, p: usize| {
            let at: Vec<usize> = (0..channels)
                .map(|c| (b * channels + c) * plane + p)
                .collect();
            let mean = at.iter().fold(E::zero(), |s, &i| s + self.x[i]) / count;
            let squares = at.iter().map(|&i| (self.x[i] - mean).powi(2));
            let var = squares.fold(E::zero(), |s, d| s + d) / count;
            (at, mean, (var + E::from(self.eps).unwrap()).sqrt())
        };
        let all = (0..batch).flat_map(|b| (0..plane).map(move |p| (b, p)));
        all.map(|(b, p)| one(b, p)).collect()
    }
}

/// y = weight (x - mean) / sqrt(var + eps) + bias
pub fn forward<E: Float>(input: &Input<'_, E>) -> Vec<E> {
    let mut y = vec![E::zero(); input.x.len()];
    for (at, mean, std) in input.positions() {
        for (c, i) in at.into_iter().enumerate() {
            y[i] = input.weight[c] * ((input.x[i] - mean) / std) + input.bias[c];
        }
    }
    y
}

/// dx, dweight and dbias, by the chain rule through the mean and the variance one after the other.
pub fn backward<E: Float>(input: &Input<'_, E>, dy: &[E]) -> [Vec<E>; 3] {
    let two = E::one() + E::one();
    let channels = input.dims[1];
    let count = E::from(channels).unwrap();
    let mut dx = vec![E::zero(); dy.len()];
    let (mut dweight, mut dbias) = (vec![E::zero(); channels], vec![E::zero(); channels]);
    for (at, mean, std) in input.positions() {
        let (mut dmean, mut dvar) = (E::zero(), E::zero());
        for (c, &i) in at.iter().enumerate() {
            let centred = input.x[i] - mean;
            dbias[c] = dbias[c] + dy[i];
            dweight[c] = dweight[c] + dy[i] * centred / std;
            dmean = dmean - dy[i] * input.weight[c] / std;
            dvar = dvar - dy[i] * input.weight[c] * centred / (two * std.powi(3));
        }
        for (c, &i) in at.iter().enumerate() {
            let centred = input.x[i] - mean;
            let direct = dy[i] * input.weight[c] / std;
            dx[i] = direct + dmean / count + dvar * two * centred / count;
        }
    }
    [dx, dweight, dbias]
}
