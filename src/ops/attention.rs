//! Multi-head self-attention over the positions of an image.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Const, ConstDim, Dim, HasShape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::{Hidden, PooledTensor};
use crate::error::Result;
use crate::kernels::args::attention::AttentionOp;
pub use crate::kernels::args::attention::QkvOrder;
use crate::profile::timed;

/// The compile-time size 3 N: queries, keys and values of N channels each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Triple<const N: usize>;

impl<const N: usize> Dim for Triple<N> {
    fn size(&self) -> usize {
        3 * N
    }
    fn from_size(size: usize) -> Option<Self> {
        (size == 3 * N).then_some(Self)
    }
}

impl<const N: usize> ConstDim for Triple<N> {
    const SIZE: usize = 3 * N;
}

/// How many heads attention has, which its tensors' shapes do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads<const HEADS: usize>;

/// Self-attention of `HEADS` heads over the N = H W positions of an image ([Vaswani et al.,
/// 2017](https://arxiv.org/abs/1706.03762), Eq. 1), (B, 3 C, H, W) -> (B, C, H, W).
///
/// In each head, with queries, keys and values q, k, v of shape (d, N), d = C / HEADS:
///
/// y_{c,t} = sum_s P_{t,s} v_{c,s}, with P_t = softmax_s(sum_c q_{c,t} k_{c,s} / sqrt(d)).
///
/// `qkv` has the heads one after the other, each with its d queries, d keys and d values: the order
/// of `QKVAttentionLegacy` in OpenAI's U-Net ([Dhariwal and Nichol,
/// 2021](https://arxiv.org/abs/2105.05233)).
/// The backward pass keeps two numbers a query instead of the N x N weights, and computes those
/// again. Memory beside the tensors is of the order of N^2 a thread.
///
/// `HEADS` has to divide `C`; anything else does not compile.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if memory runs out.
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::attention::{try_attention, Heads, Triple};
///
/// let dev = Cpu::default();
/// let qkv: Tensor<(Const<2>, Triple<16>, Const<8>, Const<8>), f32, _> = dev.sample_normal();
/// let y = try_attention(qkv, Heads::<4>)?;
/// let _: &Rank4<2, 16, 8, 8> = y.shape();
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_attention<const HEADS: usize, const C: usize, B, H, W, E, D, T>(
    qkv: Tensor<(B, Triple<C>, H, W), E, D, T>,
    heads: Heads<HEADS>,
) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>>
where
    B: Dim,
    H: Dim,
    W: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let order = QkvOrder::ByHead;
    attention_hidden(qkv.into(), heads, order).and_then(Hidden::into_tensor)
}

/// [`try_attention`] of `qkv` that has the queries of all heads first, then their keys, then their values:
/// the order of vision transformers ([Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929); timm,
/// torchvision) and of PyTorch's `MultiheadAttention`.
///
/// # Errors
/// As there.
pub fn try_attention_by_kind<const HEADS: usize, const C: usize, B, H, W, E, D, T>(
    qkv: Tensor<(B, Triple<C>, H, W), E, D, T>,
    heads: Heads<HEADS>,
) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>>
where
    B: Dim,
    H: Dim,
    W: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let order = QkvOrder::ByKind { heads: HEADS };
    attention_hidden(qkv.into(), heads, order).and_then(Hidden::into_tensor)
}

/// Attention between operations of this crate.
pub(crate) fn attention_hidden<const HEADS: usize, const C: usize, B, H, W, E, D, T>(
    qkv: Hidden<(B, Triple<C>, H, W), E, D, T>,
    _: Heads<HEADS>,
    order: QkvOrder,
) -> Result<Hidden<(B, Const<C>, H, W), E, D, T>>
where
    B: Dim,
    H: Dim,
    W: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    const {
        assert!(
            C > 0 && HEADS > 0 && C / HEADS * HEADS == C,
            "HEADS must divide C"
        );
    }
    let &(b, _, h, w) = qkv.shape();
    let op = AttentionOp {
        depth: C / HEADS,
        positions: h.size() * w.size(),
        order,
    };
    let (qkv, tape) = qkv.split()?;
    let dev = qkv.tensor.device().clone();
    let mut y = qkv.output((b, Const, h, w))?;
    let mut statistics = PooledTensor::take(&dev, (b.size() * HEADS * 2 * op.positions,))?;
    // For each head of d channels: S = (N, d) x (d, N), P = softmax(S / sqrt(d)), y = (d, N) x (N, N)
    timed("attention, forward", || {
        let statistics = statistics.view_mut()?;
        D::attention_forward(&op, qkv.tensor.view()?, y.view_mut()?, statistics)
    })?;
    // dP = (N, d) x (d, N), dV = (d, N) x (N, N); through the softmax dS; dQ and dK = (d, N) x (N, N)
    let is_wanted = qkv.grad.is_wanted();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        qkv.grad.write(grads, |dx, fill| {
            timed("attention, backward", || {
                let (qkv, statistics) = (qkv.tensor.view()?, statistics.view()?);
                D::attention_backward(&op, qkv, statistics, dy.view(), dx, fill)
            })
        })
    }))
}

#[cfg(test)]
mod tests;
