//! Concatenation of images along their channels: the skip connections of a U-Net.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Const, Dim, HasShape};
use dfdx::tensor::{Merge, Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::{GradTarget, Hidden};
use crate::error::{Error, Result};
use crate::kernels::args::concat::Part;
use crate::profile::timed;

/// The channels of `a`, then those of `b`: (B, A, H, W) and (B, C, H, W) -> (B, A + C, H, W).
///
/// `OUT` has to be A + C; anything else does not compile.
///
/// # Errors
/// [`Error::Shape`] if batch, height or width differ; [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::concat::try_concat_channels;
///
/// let dev = Cpu::default();
/// let (a, b) = (dev.tensor([[[[1.0f32, 2.0]]]]), dev.tensor([[[[3.0f32, 4.0]], [[5.0, 6.0]]]]));
/// let y = try_concat_channels(a.leaky_trace(), b.clone(), Const::<3>)?;
/// assert_eq!(y.array(), [[[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]]]);
/// assert_eq!(y.square().sum().backward().get(&b).array(), [[[[6.0, 8.0]], [[10.0, 12.0]]]]);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_concat_channels<const A: usize, const C: usize, const OUT: usize, B, H, W, E, D, T, R>(
    a: Tensor<(B, Const<A>, H, W), E, D, T>,
    b: Tensor<(B, Const<C>, H, W), E, D, R>,
    to: Const<OUT>,
) -> Result<Tensor<(B, Const<OUT>, H, W), E, D, T>>
where
    B: Dim,
    H: Dim,
    W: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D> + Merge<R>,
    R: Tape<E, D>,
{
    concat_channels_hidden(a.into(), b.into(), to).and_then(Hidden::into_tensor)
}

/// [`try_concat_channels`] between operations of this crate.
pub(crate) fn concat_channels_hidden<
    const A: usize,
    const C: usize,
    const OUT: usize,
    B,
    H,
    W,
    E,
    D,
    T,
    R,
>(
    a: Hidden<(B, Const<A>, H, W), E, D, T>,
    b: Hidden<(B, Const<C>, H, W), E, D, R>,
    _: Const<OUT>,
) -> Result<Hidden<(B, Const<OUT>, H, W), E, D, T>>
where
    B: Dim,
    H: Dim,
    W: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D> + Merge<R>,
    R: Tape<E, D>,
{
    const {
        assert!(
            A + C == OUT,
            "the output's channels are those of both inputs"
        );
    }
    let ((batch, _, h, w), found) = (*a.shape(), *b.shape());
    if (batch, h, w) != (found.0, found.2, found.3) {
        return Err(Error::shape("concat", "images", (batch, C, h, w), found));
    }
    let plane = h.size() * w.size();
    let whole = OUT * plane;
    let parts = [0..A * plane, A * plane..whole].map(|range| Part { whole, range });
    let (a, tape) = a.split()?;
    let (b, tape) = b.split_onto(tape)?;
    let mut y = a.output((batch, Const, h, w))?;
    timed("concatenation, forward", || {
        D::concat_forward(&parts[0], a.tensor.view()?, y.view_mut()?)?;
        D::concat_forward(&parts[1], b.tensor.view()?, y.view_mut()?)
    })?;
    let inputs = [a.grad, b.grad];
    let is_wanted = inputs.iter().any(GradTarget::is_wanted);
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        for (part, dx_to) in parts.iter().zip(inputs) {
            dx_to.write(grads, |dx, fill| {
                timed("concatenation, backward", || {
                    D::concat_backward(part, dy.view(), dx, fill)
                })
            })?;
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests;
