//! The embedding of an image's positions, which transformers add to it.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Const, Dim, HasShape};
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::bridge::{contiguous, Hidden, Parameter};
use crate::error::{Error, Result};
use crate::kernels::args::ImageDims;
use crate::profile::timed;

const OP: &str = "position_embedding";

/// y_{b,c,p} = x_{b,c,p} + embedding_{p,c}, the positions p being those of the image, row by row.
///
/// - `x`, and the result: (B, C, H, W)
/// - `embedding`: (1, H W, C), as vision transformers in PyTorch have it
///
/// # Errors
/// [`Error::Shape`] if the embedding is not one of H W positions; [`Error::Device`].
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::ops::position_embedding::try_position_embedding;
///
/// let dev = Cpu::default();
/// let x: Tensor<Rank4<2, 3, 2, 2>, f32, _> = dev.sample_normal();
/// let embedding: Tensor<Rank3<1, 4, 3>, f32, _> = dev.sample_normal();
/// let y = try_position_embedding(x.clone(), &embedding)?;
/// assert_eq!(y.array()[1][2][1][0], x.array()[1][2][1][0] + embedding.array()[0][2][2]);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn try_position_embedding<const C: usize, B, H, W, N, E, D, T>(
    x: Tensor<(B, Const<C>, H, W), E, D, T>,
    embedding: &Tensor<(Const<1>, N, Const<C>), E, D>,
) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>>
where
    B: Dim,
    H: Dim,
    W: Dim,
    N: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    position_embedding_hidden(x.into(), embedding).and_then(Hidden::into_tensor)
}

/// [`try_position_embedding`] between operations of this crate.
pub(crate) fn position_embedding_hidden<const C: usize, B, H, W, N, E, D, T>(
    x: Hidden<(B, Const<C>, H, W), E, D, T>,
    embedding: &Tensor<(Const<1>, N, Const<C>), E, D>,
) -> Result<Hidden<(B, Const<C>, H, W), E, D, T>>
where
    B: Dim,
    H: Dim,
    W: Dim,
    N: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    let &(b, _, h, w) = x.shape();
    let dims = ImageDims {
        batch: b.size(),
        channels: C,
        plane: h.size() * w.size(),
    };
    let (_, n, _) = *embedding.shape();
    if n.size() != dims.plane {
        return Err(Error::shape(OP, "positions", dims.plane, n.size()));
    }
    let (x, tape) = x.split()?;
    let (embedding, tape) = contiguous(embedding, tape)?;
    let mut y = x.output(*x.tensor.shape())?;
    timed("position embedding, forward", || {
        let (x, embedding) = (x.tensor.view()?, D::view(OP, &embedding)?);
        D::position_embedding_forward(dims, x, embedding, y.view_mut()?)
    })?;
    let gradient_to = Parameter::of::<_, T>(OP, &embedding)?;
    let is_wanted = gradient_to.is_trained() || x.grad.is_wanted();
    Ok(Hidden::recorded(y, tape, is_wanted, move |dy, grads| {
        timed("position embedding, backward", || {
            gradient_to.write(grads, None, |to| {
                D::position_embedding_backward(dims, dy.view(), to)
            })?;
            x.grad.add(grads, dy)
        })
    }))
}

#[cfg(test)]
mod tests;
