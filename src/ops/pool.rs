//! Maximum, average and global average pooling of images.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Dim, HasShape, Shape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::{Buffer, Hidden};
use crate::error::{Error, Result};
use crate::kernels::args::pool::Pool2DOp;
use crate::profile::timed;
use crate::shape::ConvDim;

/// How a pool's window moves, which its tensors' shapes do not say: `Pool2D::<K, S, P>` has `K` by `K` elements, `S`
/// apart, and `P` rows and columns of padding at each edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool2D<const K: usize, const S: usize = 1, const P: usize = 0>;

/// The output of a pool over `(B, C, H, W)`.
pub type Pooled<B, C, H, W, const K: usize, const S: usize, const P: usize> = (
    B,
    C,
    <H as ConvDim<K, S, P, 1>>::Out,
    <W as ConvDim<K, S, P, 1>>::Out,
);

/// The op and the output's shape for an image of this shape.
fn geometry<B: Dim, C: Dim, H, W, const K: usize, const S: usize, const P: usize>(
    &(b, c, h, w): &(B, C, H, W),
    _: Pool2D<K, S, P>,
) -> Result<(Pool2DOp, Pooled<B, C, H, W, K, S, P>)>
where
    H: ConvDim<K, S, P, 1>,
    W: ConvDim<K, S, P, 1>,
{
    if 2 * P > K {
        return Err(Error::parameter("padding", P, "at most half of the kernel"));
    }
    let shape = (b, c, h.conv()?, w.conv()?);
    // With padding a window fits into an image of no pixels.
    if h.size() * w.size() == 0 {
        let found = (h.size(), w.size());
        return Err(Error::shape("pool2d", "image (H, W)", "not empty", found));
    }
    let op = Pool2DOp {
        kernel: K,
        stride: S,
        padding: P,
        input: [h.size(), w.size()],
        output: [shape.2.size(), shape.3.size()],
    };
    Ok((op, shape))
}

/// The maximum over each window of `K` by `K` elements, `S` apart, of an image with `P` rows and
/// columns of padding at each edge. Padding never is the maximum.
///
/// (B, C, H, W) -> (B, C, H', W'), with H' and W' from [`ConvDim`]. The gradient goes to the first
/// of equal maxima; NaN counts as larger than any number. Both as in PyTorch.
///
/// # Errors
/// [`Error::Parameter`] if 2 P > K; [`Error::Shape`] if the window does not fit into the image;
/// [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::pool::{try_max_pool2d, Pool2D};
///
/// let x = Cpu::default().tensor([[[[1.0f32, 2.0], [3.0, 4.0]]]]);
/// assert_eq!(try_max_pool2d(x, Pool2D::<2, 2>)?.array(), [[[[4.0]]]]);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_max_pool2d<const K: usize, const S: usize, const P: usize, B, C, H, W, E, D, T>(
    x: Tensor<(B, C, H, W), E, D, T>,
    window: Pool2D<K, S, P>,
) -> Result<Tensor<Pooled<B, C, H, W, K, S, P>, E, D, T>>
where
    B: Dim,
    C: Dim,
    H: ConvDim<K, S, P, 1>,
    W: ConvDim<K, S, P, 1>,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    max_pool2d_hidden(x.into(), window).and_then(Hidden::into_tensor)
}

/// [`try_max_pool2d`] between operations of this crate.
pub(crate) fn max_pool2d_hidden<
    const K: usize,
    const S: usize,
    const P: usize,
    B,
    C,
    H,
    W,
    E,
    D,
    T,
>(
    x: Hidden<(B, C, H, W), E, D, T>,
    window: Pool2D<K, S, P>,
) -> Result<Hidden<Pooled<B, C, H, W, K, S, P>, E, D, T>>
where
    B: Dim,
    C: Dim,
    H: ConvDim<K, S, P, 1>,
    W: ConvDim<K, S, P, 1>,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let (op, shape) = geometry(x.shape(), window)?;
    let (x, tape) = x.split()?;
    let mut y = x.output(shape)?;
    let mut argmax = match T::OWNS_TAPE {
        true => Some(Buffer::take(x.tensor.device(), y.shape().num_elements())?),
        false => None,
    };
    timed("pool, forward", || {
        let argmax = argmax.as_mut().map(Buffer::view_mut);
        D::max_pool2d_forward(&op, x.tensor.view()?, y.view_mut()?, argmax)
    })?;
    let is_wanted = x.grad.is_wanted();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        let Some(argmax) = argmax else { return Ok(()) };
        x.grad.write(grads, |dx, fill| {
            timed("pool, backward", || {
                D::max_pool2d_backward(&op, argmax.view(), dy.view(), dx, fill)
            })
        })
    }))
}

/// The average over each window of `K` by `K` elements, `S` apart, of an image with `P` rows and
/// columns of zeros at each edge, which count (PyTorch's `count_include_pad`).
///
/// (B, C, H, W) -> (B, C, H', W'), with H' and W' from [`ConvDim`].
///
/// # Errors
/// [`Error::Parameter`] if 2 P > K; [`Error::Shape`] if the window does not fit into the image;
/// [`Error::Device`].
pub fn try_avg_pool2d<const K: usize, const S: usize, const P: usize, B, C, H, W, E, D, T>(
    x: Tensor<(B, C, H, W), E, D, T>,
    window: Pool2D<K, S, P>,
) -> Result<Tensor<Pooled<B, C, H, W, K, S, P>, E, D, T>>
where
    B: Dim,
    C: Dim,
    H: ConvDim<K, S, P, 1>,
    W: ConvDim<K, S, P, 1>,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    avg_pool2d_hidden(x.into(), window).and_then(Hidden::into_tensor)
}

/// [`try_avg_pool2d`] of a hidden tensor.
pub(crate) fn avg_pool2d_hidden<
    const K: usize,
    const S: usize,
    const P: usize,
    B,
    C,
    H,
    W,
    E,
    D,
    T,
>(
    x: Hidden<(B, C, H, W), E, D, T>,
    window: Pool2D<K, S, P>,
) -> Result<Hidden<Pooled<B, C, H, W, K, S, P>, E, D, T>>
where
    B: Dim,
    C: Dim,
    H: ConvDim<K, S, P, 1>,
    W: ConvDim<K, S, P, 1>,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let (op, shape) = geometry(x.shape(), window)?;
    let (x, tape) = x.split()?;
    let mut y = x.output(shape)?;
    timed("pool, forward", || {
        D::avg_pool2d_forward(&op, x.tensor.view()?, y.view_mut()?)
    })?;
    let is_wanted = x.grad.is_wanted();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        x.grad.write(grads, |dx, fill| {
            timed("pool, backward", || {
                D::avg_pool2d_backward(&op, dy.view(), dx, fill)
            })
        })
    }))
}

/// The average of each channel's whole image: (B, C, H, W) -> (B, C).
///
/// # Errors
/// [`Error::Shape`] if the images are empty; [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// let dev = Cpu::default();
/// let x = dev.tensor([[[[1.0f32, 2.0], [3.0, 4.0]]]]);
/// let y = ssprop::ops::pool::try_global_avg_pool2d(x).unwrap();
/// assert_eq!(y.array(), [[2.5]]);
/// ```
pub fn try_global_avg_pool2d<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T>(
    x: Tensor<(B, C, H, W), E, D, T>,
) -> Result<Tensor<(B, C), E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    global_avg_pool2d_hidden(x.into()).and_then(Hidden::into_tensor)
}

/// [`try_global_avg_pool2d`] after an operation of this crate.
pub(crate) fn global_avg_pool2d_hidden<B: Dim, C: Dim, H: Dim, W: Dim, E, D, T>(
    x: Hidden<(B, C, H, W), E, D, T>,
) -> Result<Hidden<(B, C), E, D, T>>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let (b, c, h, w) = *x.shape();
    let plane = h.size() * w.size();
    if plane == 0 {
        let found = (h.size(), w.size());
        return Err(Error::shape(
            "global_avg_pool2d",
            "image (H, W)",
            "not empty",
            found,
        ));
    }
    let (x, tape) = x.split()?;
    let mut y = x.output((b, c))?;
    timed("pool, forward", || {
        D::global_avg_pool2d_forward(plane, x.tensor.view()?, y.view_mut()?)
    })?;
    let is_wanted = x.grad.is_wanted();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        x.grad.write(grads, |dx, fill| {
            timed("pool, backward", || {
                D::global_avg_pool2d_backward(plane, dy.view(), dx, fill)
            })
        })
    }))
}

#[cfg(test)]
mod tests;
