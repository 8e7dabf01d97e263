//! Linear map whose backward pass is sparse by output feature.
//!
//! A linear layer is a 1x1 convolution of a 1x1 image, and its backward pass goes the same way: the
//! output features are ranked by |dY| over the batch, the best kept and copied together, and dX, dW
//! and db computed from them alone.

use std::sync::Arc;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Const, Dim, HasShape};
use dfdx::tensor::{Tape, Tensor};

pub use crate::ops::SparseBackward;

use crate::backend::Backend;
use crate::bridge::{contiguous, contiguous_option, Hidden, Parameter};
use crate::error::Result;
use crate::kernels::args::linear::LinearShape;
use crate::ops::conv2d::gradient::BackwardGradient;
use crate::profile::timed;
use crate::sparsity::{KeptCount, Masking};

const OP: &str = "linear";

/// y (B, O) = x (B, I) weightT + bias, and the sparse backward pass on x's tape.
///
/// Kept are the output features of the largest sum of |dY| over the batch, max(floor(keep * O), 1)
/// of them, or what `backward` says instead; [`Masking`] plays no part, for there are no positions.
/// `count`, if given, is told how many. The gradient of y is used up on the way.
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) if I or O is 0; [`Error::Shape`](crate::Error::Shape) if the sizes overflow; [`Error::Device`](crate::Error::Device)
/// if memory runs out.
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::linear::{linear, SparseBackward};
/// use ssprop::sparsity::DropRate;
///
/// let dev = Cpu::default();
/// let x: Tensor<Rank2<4, 6>, f32, _> = dev.sample_normal();
/// let w: Tensor<Rank2<10, 6>, f32, _> = dev.sample_normal();
/// let b: Tensor<Rank1<10>, f32, _> = dev.zeros();
/// let backward = SparseBackward { drop_rate: DropRate::new(0.8)?, ..SparseBackward::default() };
/// let y = linear(x.leaky_trace(), &w, Some(&b), backward, None)?;
/// let _: &Rank2<4, 10> = y.shape();
///
/// let dw = y.square().mean().backward().get(&w).array();
/// assert_eq!(dw.iter().filter(|row| row.iter().any(|&g| g != 0.0)).count(), 2);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn linear<const I: usize, const O: usize, B: Dim, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
    x: Tensor<(B, Const<I>), E, D, T>,
    weight: &Tensor<(Const<O>, Const<I>), E, D>,
    bias: Option<&Tensor<(Const<O>,), E, D>>,
    backward: SparseBackward,
    count: Option<Arc<KeptCount>>,
) -> Result<Tensor<(B, Const<O>), E, D, T>> {
    linear_hidden(x.into(), weight, bias, backward, count).and_then(Hidden::into_tensor)
}

/// [`linear`] of a hidden tensor.
pub(crate) fn linear_hidden<
    const I: usize,
    const O: usize,
    B: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
>(
    x: Hidden<(B, Const<I>), E, D, T>,
    weight: &Tensor<(Const<O>, Const<I>), E, D>,
    bias: Option<&Tensor<(Const<O>,), E, D>>,
    backward: SparseBackward,
    count: Option<Arc<KeptCount>>,
) -> Result<Hidden<(B, Const<O>), E, D, T>> {
    let &(b, _) = x.shape();
    let shape = LinearShape {
        batch: b.size(),
        inputs: I,
        outputs: O,
    };
    let conv = shape.conv()?;
    let backward = SparseBackward {
        masking: Masking::Channels,
        ..backward
    };
    let (x, tape) = x.split()?;
    let (weight, tape) = contiguous(weight, tape)?;
    let (bias, tape) = contiguous_option(bias, tape)?;
    let mut y = x.output((b, Const))?;
    let dev = x.tensor.device().clone();
    // (B, I) x (I, O) + (O) -> (B, O)
    timed("linear, forward", || {
        let bias = bias.as_ref().map(|b| D::view(OP, b)).transpose()?;
        let (x, weight) = (x.tensor.view()?, D::view(OP, &weight)?);
        D::linear_forward(&shape, x, weight, bias, y.view_mut()?)
    })?;

    let [dw_to, db_to] = Parameter::of_layer::<_, _, T>(OP, &weight, bias.as_ref())?;
    let feeds_back = backward.input_gradient && x.grad.is_wanted();
    let is_wanted = feeds_back || dw_to.is_some() || db_to.is_some();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        let dy =
            BackwardGradient::new(&dev, &conv, dy, &backward, None).map_err(D::device_error)?;
        if let Some(count) = count {
            dy.count(&count);
        }
        // dY, or what is kept of it: (B, n), n features of O.
        // db: the sum of dY over the batch -> (O)
        // dW: (n, B) x (B, I) -> n rows of (O, I)
        // dX: (B, n) x (n, I) -> (B, I)
        timed("linear, backward", || {
            if let Some(db_to) = db_to {
                db_to.write(grads, dy.rows(), |db| {
                    D::linear_backward_bias(&shape, dy.view(), db)
                })?;
            }
            if let Some(dw_to) = dw_to {
                dw_to.write(grads, dy.rows(), |dw| {
                    D::linear_backward_weight(&shape, x.tensor.view()?, dy.view(), dw)
                })?;
            }
            if !feeds_back {
                return Ok(());
            }
            x.grad.write(grads, |dx, fill| {
                let weight = D::view(OP, &weight)?;
                D::linear_backward_input(&shape, weight, dy.view_for_input(), dx, fill)
            })
        })
    }))
}

#[cfg(test)]
mod tests;
