//! The mean cross entropy of classes: the loss of a classifier.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Dim, HasShape, Rank0};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::profile::timed;

const OP: &str = "cross entropy";

/// The mean over the batch of -sum target ln(softmax(logits)), in one pass and summed in f64, where dfdx's
/// `cross_entropy_with_logits_loss` makes nine tensors. `target`, the probabilities of the classes, gets no
/// gradient. 0 for an empty batch.
///
/// - `logits`, `target`: (B, classes)
///
/// # Errors
/// [`Error::Shape`] if the shapes differ; [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::cross_entropy::try_cross_entropy;
///
/// let dev = Cpu::default();
/// let logits: Tensor<Rank2<1, 2>, f64, _> = dev.tensor([[0.0, 3f64.ln()]]);
/// let loss = try_cross_entropy(logits.leaky_trace(), dev.tensor([[0.0, 1.0]]))?;
/// assert!((loss.array() - (4.0f64 / 3.0).ln()).abs() < 1e-15);
/// let [[first, second]] = loss.backward().get(&logits).array();
/// assert!((first - 0.25).abs() < 1e-15 && (second + 0.25).abs() < 1e-15);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_cross_entropy<B: Dim, C: Dim, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    logits: Tensor<(B, C), E, D, T>,
    target: Tensor<(B, C), E, D>,
) -> Result<Tensor<Rank0, E, D, T>> {
    if logits.shape() != target.shape() {
        return Err(Error::shape(OP, "target", logits.shape(), target.shape()));
    }
    let classes = logits.shape().1.size();
    let (x, tape) = Hidden::from(logits).split()?;
    let (target, _) = Hidden::<(B, C), E, D>::from(target).split()?;
    let mut y = x.output(())?;
    timed("loss, forward", || {
        let (x, target) = (x.tensor.view()?, target.tensor.view()?);
        D::cross_entropy_forward(classes, x, target, y.view_mut()?)
    })?;
    let y = Hidden::recorded(y, tape, x.grad.is_wanted(), move |dy, grads| {
        x.grad.write(grads, |dx, fill| {
            timed("loss, backward", || {
                let (x, target) = (x.tensor.view()?, target.tensor.view()?);
                D::cross_entropy_backward(classes, x, target, dy.view(), dx, fill)
            })
        })
    });
    y.into_tensor()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::losses::cross_entropy_with_logits_loss;
    use dfdx::prelude::*;

    type Rows = Rank2<5, 7>;

    /// Logits of magnitude `size`, and targets that do not add up to 1.
    fn case(dev: &Cpu, size: f64) -> [Tensor<Rows, f64, Cpu>; 2] {
        let wave = |i: usize| (i as f64 * 0.7).sin();
        let logits = (0..35).map(|i| size * wave(i)).collect();
        let target = (0..35).map(|i| wave(i + 3).abs()).collect();
        [logits, target].map(|v: Vec<f64>| dev.tensor_from_vec(v, Rows::default()))
    }

    #[test]
    fn it_is_that_of_dfdx() {
        let dev = Cpu::default();
        for size in [0.0, 1.0, 30.0] {
            let [x, target] = case(&dev, size);
            let ours = try_cross_entropy(x.leaky_trace(), target.clone()).unwrap() * 1.5;
            let theirs = cross_entropy_with_logits_loss(x.leaky_trace(), target) * 1.5;
            assert!((ours.array() / theirs.array() - 1.0).abs() < 1e-13);
            let (ours, theirs) = (ours.backward(), theirs.backward());
            for (a, b) in ours.get(&x).as_vec().iter().zip(theirs.get(&x).as_vec()) {
                assert!((a - b).abs() < 1e-14, "{a}, {b}");
            }
        }
    }

    #[test]
    fn large_logits_have_a_loss_and_nan_is_told() {
        let dev = Cpu::default();
        let target = dev.tensor([[1.0f32, 0.0]]);
        let loss = |x: [[f32; 2]; 1]| {
            try_cross_entropy(dev.tensor(x), target.clone())
                .unwrap()
                .array()
        };
        assert_eq!(loss([[1e30, -1e30]]), 0.0);
        assert_eq!(loss([[-1e30, 1e30]]), 2e30);
        for x in [f32::NAN, f32::INFINITY] {
            assert!(loss([[x, 0.0]]).is_nan());
        }
    }

    #[test]
    fn an_empty_batch_and_another_shape() {
        let dev = Cpu::default();
        let none: Tensor<(usize, Const<3>), f32, _> = dev.zeros_like(&(0, Const));
        let loss = try_cross_entropy(none.clone(), none.clone()).unwrap();
        assert_eq!(loss.array(), 0.0);
        let one = dev.zeros_like(&(1, Const));
        let err = try_cross_entropy(none, one).unwrap_err().to_string();
        assert!(err.contains("target"), "{err}");
    }
}
