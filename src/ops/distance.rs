//! The mean distance of an output from its target: the loss of a denoiser.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Rank0, Shape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
pub use crate::kernels::args::distance::Distance;
use crate::profile::timed;

const OP: &str = "distance";

/// The mean of |x - target| or of (x - target)^2 over all elements, summed in f64 (dfdx's running f32
/// sum of 128x3x64x64 squares is 1e-3 off). `target` gets no gradient; at x = target that of |x -
/// target| is 0, as in PyTorch.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ; [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::distance::{try_distance, Distance};
///
/// let dev = Cpu::default();
/// let (x, target) = (dev.tensor([1.0f32, 2.0]), dev.tensor([0.0, 5.0]));
/// let loss = try_distance(Distance::L2, x.leaky_trace(), target)?;
/// assert_eq!(loss.array(), 5.0);
/// assert_eq!(loss.backward().get(&x).array(), [1.0, -3.0]);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_distance<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    distance: Distance,
    x: Tensor<S, E, D, T>,
    target: Tensor<S, E, D>,
) -> Result<Tensor<Rank0, E, D, T>> {
    if x.shape() != target.shape() {
        return Err(Error::shape(OP, "target", x.shape(), target.shape()));
    }
    let (x, tape) = Hidden::from(x).split()?;
    let (target, _) = Hidden::<S, E, D>::from(target).split()?;
    let mut y = x.output(())?;
    timed("loss, forward", || {
        let (x, target) = (x.tensor.view()?, target.tensor.view()?);
        D::distance_forward(distance, x, target, y.view_mut()?)
    })?;
    let y = Hidden::recorded(y, tape, x.grad.is_wanted(), move |dy, grads| {
        x.grad.write(grads, |dx, fill| {
            timed("loss, backward", || {
                let (x, target) = (x.tensor.view()?, target.tensor.view()?);
                D::distance_backward(distance, x, target, dy.view(), dx, fill)
            })
        })
    });
    y.into_tensor()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::*;

    fn wave(len: usize, seed: f64) -> Vec<f32> {
        (0..len)
            .map(|i| ((i as f64 + seed) * 0.7).sin() as f32)
            .collect()
    }

    #[test]
    fn large_means_are_those_of_f64() {
        let shape = (16usize, 3usize, 64usize, 64usize);
        let len = shape.num_elements();
        let (a, b) = (wave(len, 0.3), wave(len, 9.1));
        let dev = Cpu::default();
        let x = dev.tensor_from_vec(a.clone(), shape);
        let target = dev.tensor_from_vec(b.clone(), shape);
        for distance in [Distance::L1, Distance::L2] {
            let difference = |(&a, &b): (&f32, &f32)| f64::from(a) - f64::from(b);
            let of = |d: f64| match distance {
                Distance::L1 => d.abs(),
                Distance::L2 => d * d,
            };
            let pairs = || a.iter().zip(&b).map(difference);
            let expected = pairs().map(of).sum::<f64>() / len as f64;
            let loss = try_distance(distance, x.leaky_trace(), target.clone()).unwrap();
            let found = f64::from(loss.array());
            assert!((found / expected - 1.0).abs() < 1e-7, "{found} {expected}");
            let grads = loss.backward();
            for (found, d) in grads.get(&x).as_vec().into_iter().zip(pairs()) {
                let slope = match distance {
                    Distance::L1 => d.signum(),
                    Distance::L2 => 2.0 * d,
                };
                let expected = slope / len as f64;
                assert!((f64::from(found) - expected).abs() <= 1e-6 / len as f64);
            }
        }
    }

    #[test]
    fn no_slope_at_the_target_and_none_without_elements() {
        let dev = Cpu::default();
        let x = dev.tensor([2.0f64, 3.0]);
        let target = dev.tensor([2.0, 1.0]);
        let loss = try_distance(Distance::L1, x.leaky_trace(), target).unwrap();
        assert_eq!(loss.array(), 1.0);
        assert_eq!(loss.backward().get(&x).array(), [0.0, 0.5]);

        let none = dev.zeros_like(&(0usize,));
        let loss = try_distance::<(usize,), f32, _, _>(Distance::L2, none.clone(), none).unwrap();
        assert_eq!(loss.array(), 0.0);
    }

    #[test]
    fn another_shape_is_an_error() {
        let dev = Cpu::default();
        let (a, b) = (dev.zeros_like(&(2usize,)), dev.zeros_like(&(3usize,)));
        let error = try_distance::<(usize,), f32, _, _>(Distance::L2, a, b).unwrap_err();
        assert!(error.to_string().contains("target"), "{error}");
    }
}
