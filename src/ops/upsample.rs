//! Nearest-neighbour upsampling of images by 2.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Dim, HasShape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::profile::timed;

/// Doubles an image's height and width: y_{2i+a, 2j+b} = x_{ij} for a and b in {0, 1}.
///
/// (B, C, H, W) -> (B, C, 2 H, 2 W). It undoes a halving, so the caller, who knows what was halved,
/// says the output's size with its type: `to` has to be (2 H, 2 W).
///
/// # Errors
/// [`Error::Shape`] if `to` is not twice the image's size; [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::upsample::try_upsample_nearest2d;
///
/// let dev = Cpu::default();
/// let x = dev.tensor([[[[1.0f32, 2.0]]]]);
/// let y = try_upsample_nearest2d(x.leaky_trace(), (Const::<2>, Const::<4>))?;
/// assert_eq!(y.array(), [[[[1.0, 1.0, 2.0, 2.0]; 2]]]);
/// assert_eq!(y.sum().backward().get(&x).array(), [[[[4.0, 4.0]]]]);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_upsample_nearest2d<B, C, H, W, H2, W2, E, D, T>(
    x: Tensor<(B, C, H, W), E, D, T>,
    to: (H2, W2),
) -> Result<Tensor<(B, C, H2, W2), E, D, T>>
where
    B: Dim,
    C: Dim,
    H: Dim,
    W: Dim,
    H2: Dim,
    W2: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    upsample_nearest2d_hidden(x.into(), to).and_then(Hidden::into_tensor)
}

/// [`try_upsample_nearest2d`] between operations of this crate.
pub(crate) fn upsample_nearest2d_hidden<B, C, H, W, H2, W2, E, D, T>(
    x: Hidden<(B, C, H, W), E, D, T>,
    to: (H2, W2),
) -> Result<Hidden<(B, C, H2, W2), E, D, T>>
where
    B: Dim,
    C: Dim,
    H: Dim,
    W: Dim,
    H2: Dim,
    W2: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let &(b, c, h, w) = x.shape();
    let size = [h.size(), w.size()];
    let found = [to.0.size(), to.1.size()];
    if [0, 1]
        .iter()
        .any(|&i| size[i].checked_mul(2) != Some(found[i]))
    {
        let expected = format!("twice {size:?}");
        return Err(Error::Shape {
            op: "upsample_nearest2d",
            what: "output's height and width",
            expected,
            found: format!("{found:?}"),
        });
    }
    let (x, tape) = x.split()?;
    let mut y = x.output((b, c, to.0, to.1))?;
    timed("upsampling, forward", || {
        D::upsample_nearest2d_forward(size[1], x.tensor.view()?, y.view_mut()?)
    })?;
    let is_wanted = x.grad.is_wanted();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        x.grad.write(grads, |dx, fill| {
            timed("upsampling, backward", || {
                D::upsample_nearest2d_backward(size[1], dy.view(), dx, fill)
            })
        })
    }))
}

#[cfg(test)]
mod tests;
