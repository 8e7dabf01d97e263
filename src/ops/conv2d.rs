//! 2-d convolution whose backward pass is sparse by output channel.
//!
//! Forward, y = conv(x, weight) + bias, is an ordinary convolution. Backward ranks the output
//! channels by mean |dY| over batch, height and width, keeps the best, copies them into a
//! `ShrunkGradient`, and computes dX, dW and db from that alone (arXiv 2408.12561, Sec.
//! "Method"). Rows of dW and elements of db that belong to dropped channels get nothing. [`SparseBackward`]
//! has the variants: other choices, other masks, dX from the whole of dY.

pub(crate) mod gradient;
pub(crate) mod shrunk;

use std::sync::Arc;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Const, Dim, Shape};
use dfdx::tensor::{Tape, Tensor};

pub use crate::kernels::args::conv2d::{Conv2DOp, Conv2DShape};
pub use crate::ops::SparseBackward;

use crate::backend::Backend;
use crate::bridge::{contiguous, contiguous_option, GradSlot, Hidden, Parameter};
use crate::error::{Error, Result};
use crate::profile::timed;
use crate::shape::ConvDim;
use crate::sparsity::KeptCount;
use gradient::BackwardGradient;

const OP: &str = "conv2d";

/// How a convolution's window moves, which its tensors' shapes do not say: `Window::<STRIDE, PADDING,
/// DILATION, GROUPS>`, the last two 1 if left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window<
    const STRIDE: usize,
    const PADDING: usize,
    const DILATION: usize = 1,
    const GROUPS: usize = 1,
>;

/// A weight's shape: (C_out, C_in / groups, K, K).
pub type WeightShape<const C_OUT: usize, GroupIn, const K: usize> =
    (Const<C_OUT>, GroupIn, Const<K>, Const<K>);

/// Convolves x (B, C_in, H, W) with weight (C_out, C_in / groups, K, K), giving
/// (B, C_out, H_out, W_out), and puts the sparse backward pass on x's tape.
///
/// At a drop rate that keeps every channel, backward takes the dense path. As with every operation
/// of this crate, the gradient of the output itself is used up on the way: it is not in the
/// `Gradients` afterwards.
///
/// `f32` convolutions of 3x3 windows with stride and padding 1, and at least 8 channels on either
/// side, use Winograd's F(4x4, 3x3) on the CPU (but for dX from four channels or fewer). What is
/// different from a plain sum, which [`SparseBackward::winograd`]` = false` goes back to:
///
/// - Against `f64`, results are within 5e-6 of the largest element (tested with up to 2048 channels).
///   An element's error is a share of the largest numbers in its tile of 6x6 pixels, not of its own
///   window's: beside a spike it is the spike's.
/// - An infinite or NaN pixel makes the tiles around it NaN.
/// - Results are finite if |x|, |w| and |dY| are at most 1e36, and if the product of the two largest
///   factors, times the terms of a sum (9 C_in for y, 9 C_out for dX, B H W for dW), times 1000 is in
///   `f32`'s range. (A plain sum does without the 1000.)
/// - Where the image is flat, y is flat to the bit, as in a plain sum, in every tile whose inner 4x4
///   pixels are flat. Flat pixels of other tiles, at the edge of what is in the image, may differ in
///   the last bits, and a max pool may then choose another of them. In a small network on
///   Fashion-MNIST 47% of such ties stay before the second pool, 2 in 1000 of the channels kept at
///   80% dropped are others, and accuracies are the same: 66.8% and 66.8% dense, 64.3% (plain) and
///   64.4% with ssProp, by `tests/winograd_ties.rs` with AVX2.
///
/// # Errors
/// [`Error::Shape`] if a size known only at run time does not fit the window; [`Error::Parameter`] if the groups do not divide the channels; [`Error::Device`] if
/// memory runs out.
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::conv2d::{conv2d, SparseBackward, Window};
/// use ssprop::sparsity::DropRate;
///
/// let dev = Cpu::default();
/// let x: Tensor<Rank4<2, 3, 8, 8>, f32, _> = dev.sample_normal();
/// let w: Tensor<Rank4<10, 3, 3, 3>, f32, _> = dev.sample_normal();
/// let b: Tensor<Rank1<10>, f32, _> = dev.zeros();
/// let backward = SparseBackward { drop_rate: DropRate::new(0.8)?, ..SparseBackward::default() };
/// let y = conv2d(x.leaky_trace(), &w, Some(&b), Window::<1, 1>, backward)?;
/// let _: &Rank4<2, 10, 8, 8> = y.shape();
///
/// let dw = y.square().mean().backward().get(&w).as_vec();
/// let rows_left = dw.chunks(27).filter(|row| row.iter().any(|&g| g != 0.0)).count();
/// assert_eq!(rows_left, 2);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[allow(clippy::type_complexity)]
pub fn conv2d<
    const C_IN: usize,
    const C_OUT: usize,
    const K: usize,
    const STRIDE: usize,
    const PADDING: usize,
    const DILATION: usize,
    const GROUPS: usize,
    B: Dim,
    H: ConvDim<K, STRIDE, PADDING, DILATION>,
    W: ConvDim<K, STRIDE, PADDING, DILATION>,
    GroupIn: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
>(
    x: Tensor<(B, Const<C_IN>, H, W), E, D, T>,
    weight: &Tensor<WeightShape<C_OUT, GroupIn, K>, E, D>,
    bias: Option<&Tensor<(Const<C_OUT>,), E, D>>,
    window: Window<STRIDE, PADDING, DILATION, GROUPS>,
    backward: SparseBackward,
) -> Result<Tensor<(B, Const<C_OUT>, H::Out, W::Out), E, D, T>> {
    conv2d_hidden(x.into(), weight, bias, window, backward, None).and_then(Hidden::into_tensor)
}

/// [`conv2d`] between operations of this crate, whose backward pass tells `count` how many channels it kept.
pub(crate) fn conv2d_hidden<
    const C_IN: usize,
    const C_OUT: usize,
    const K: usize,
    const STRIDE: usize,
    const PADDING: usize,
    const DILATION: usize,
    const GROUPS: usize,
    B: Dim,
    H: ConvDim<K, STRIDE, PADDING, DILATION>,
    W: ConvDim<K, STRIDE, PADDING, DILATION>,
    GroupIn: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
>(
    x: Hidden<(B, Const<C_IN>, H, W), E, D, T>,
    weight: &Tensor<WeightShape<C_OUT, GroupIn, K>, E, D>,
    bias: Option<&Tensor<(Const<C_OUT>,), E, D>>,
    _: Window<STRIDE, PADDING, DILATION, GROUPS>,
    backward: SparseBackward,
    count: Option<Arc<KeptCount>>,
) -> Result<Hidden<(B, Const<C_OUT>, H::Out, W::Out), E, D, T>> {
    let op = Conv2DOp {
        kernel: K,
        stride: STRIDE,
        padding: PADDING,
        dilation: DILATION,
        groups: GROUPS,
    };
    let &(b, _, h, w) = dfdx::shapes::HasShape::shape(&x);
    let shape = Conv2DShape::new(op, [b.size(), C_IN, h.size(), w.size()], C_OUT)?
        .with_winograd(backward.winograd);
    let group_in = dfdx::shapes::HasShape::shape(weight).1.size();
    if group_in != shape.group_in() {
        return Err(Error::shape(
            "conv2d",
            "weight",
            [C_OUT, shape.group_in(), K, K],
            [C_OUT, group_in, K, K],
        ));
    }
    let y = (b, Const::<C_OUT>, h.conv()?, w.conv()?);
    conv_hidden(x, weight, bias, shape, y, backward, count)
}

/// A convolution of tensors of any ranks, whose sizes `shape` says: x is (B, C_in, ...), the result `y`
/// (B, C_out, ...).
///
/// # Errors
/// [`Error::Shape`] for tensors that have not as many elements as `shape` says; [`Error::Device`].
pub(crate) fn conv_hidden<X, W, Bias, Y, E, D, T>(
    x: Hidden<X, E, D, T>,
    weight: &Tensor<W, E, D>,
    bias: Option<&Tensor<Bias, E, D>>,
    shape: Conv2DShape,
    y: Y,
    backward: SparseBackward,
    count: Option<Arc<KeptCount>>,
) -> Result<Hidden<Y, E, D, T>>
where
    X: Shape,
    W: Shape,
    Bias: Shape,
    Y: Shape,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let (x, tape) = x.split()?;
    let (weight, tape) = contiguous(weight, tape)?;
    let (bias, tape) = contiguous_option(bias, tape)?;
    let dev = x.tensor.device().clone();
    let mut y = x.output(y)?;
    // (B, C_in, H, W) * (C_out, C_in / groups, K, K) + (C_out) -> (B, C_out, H_out, W_out)
    timed("convolution, forward", || {
        let bias = bias.as_ref().map(|b| D::view(OP, b)).transpose()?;
        let (x, weight) = (x.tensor.view()?, D::view(OP, &weight)?);
        D::conv2d_forward(&shape, x, weight, bias, y.view_mut()?)
    })?;

    let slot = GradSlot::new(!backward.planned_drop_rate().is_dense());
    let importance = slot.clone();
    let [dw_to, db_to] = Parameter::of_layer::<_, _, T>(OP, &weight, bias.as_ref())?;
    let feeds_back = backward.input_gradient && x.grad.is_wanted();
    let is_wanted = feeds_back || dw_to.is_some() || db_to.is_some();
    Ok(Hidden::recorded_with(
        y,
        tape,
        is_wanted,
        slot,
        move |dy, grads| {
            let known = importance.take_importance();
            let dy = timed("convolution, choice of channels", || {
                BackwardGradient::new(&dev, &shape, dy, &backward, known)
            })
            .map_err(D::device_error)?;
            if let Some(count) = &count {
                dy.count(count);
            }
            // dY, or what is kept of it: (B, n, H_out, W_out), n channels of C_out.
            // db: the sum of dY over batch and pixels -> (C_out)
            if let Some(db_to) = db_to {
                timed("convolution, db", || {
                    db_to.write(grads, dy.rows(), |db| {
                        D::conv2d_backward_bias(&shape, dy.view(), db)
                    })
                })?;
            }
            // dW: (B, C_in, H, W) * (B, n, H_out, W_out) -> n rows of (C_out, C_in / groups, K, K)
            if let Some(dw_to) = dw_to {
                timed("convolution, dW", || {
                    dw_to.write(grads, dy.rows(), |dw| {
                        D::conv2d_backward_weight(&shape, x.tensor.view()?, dy.view(), dw)
                    })
                })?;
            }
            if !feeds_back {
                return Ok(());
            }
            // dX: (B, n, H_out, W_out) * n rows of (C_out, C_in / groups, K, K) -> (B, C_in, H, W)
            x.grad.write(grads, |dx, fill| {
                timed("convolution, dX", || {
                    let weight = D::view(OP, &weight)?;
                    D::conv2d_backward_input(&shape, weight, dy.view_for_input(), dx, fill)
                })
            })
        },
    ))
}
