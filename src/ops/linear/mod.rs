//! Linear map whose backward pass is sparse by output feature.
//!
//! A linear layer is a 1x1 convolution of a 1x1 image, and its backward pass goes the same way: the
//! output features are ranked by |dY| over the batch, the best kept and copied together, and dX, dW
//! and db computed from them alone.

mod cpu;
#[doc(hidden)]
pub mod reference;

use std::sync::Arc;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Const, Dim, HasShape, Shape};
use dfdx::tensor::{Storage, Tape, Tensor};

pub use crate::ops::Backward;

use crate::backend::Backend;
use crate::bridge::{Fill, Hidden};
use crate::error::Result;
use crate::ops::conv2d::{BackwardGradient, Conv2DOp, Conv2DShape, OutputGrad};
use crate::profile::timed;
use crate::sparsity::{KeptCount, Masking};

/// The sizes of a linear map: x (batch, inputs), weight (outputs, inputs), y (batch, outputs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of x and y, B.
    pub batch: usize,
    /// Input features, I.
    pub inputs: usize,
    /// Output features, O.
    pub outputs: usize,
}

impl LinearShape {
    /// The same as a convolution: outputs are its channels, of one pixel each.
    fn conv(&self) -> Result<Conv2DShape> {
        let op = Conv2DOp {
            kernel: 1,
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        };
        Conv2DShape::new(op, [self.batch, self.inputs, 1, 1], self.outputs)
    }
}

/// Which gradient [`LinearKernel::linear_backward`] adds to.
#[derive(Debug)]
pub enum LinearGrads<'a, V> {
    /// dX (B, I), added or written.
    Input(&'a mut V, Fill),
    /// dW (O, I)
    Weight(&'a mut V),
    /// db (O)
    Bias(&'a mut V),
}

/// A device's linear map. [`linear`] is the function to call.
pub trait LinearKernel<E: Dtype>: Storage<E> {
    /// y (B, O) = x (B, I) weightT (I, O) + bias (O)
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out, [`Error::Shape`](crate::Error::Shape) for tensors that are not contiguous.
    fn linear_forward<X: Shape, W: Shape, B: Shape, Y: Shape>(
        &self,
        shape: &LinearShape,
        x: &Tensor<X, E, Self>,
        weight: &Tensor<W, E, Self>,
        bias: Option<&Tensor<B, E, Self>>,
        y: &mut Tensor<Y, E, Self>,
    ) -> Result<()>;

    /// Adds the gradient of the input, the weight or the bias to what is there. `dy` is (B, O), or
    /// (B, kept).
    ///
    /// # Errors
    /// Those of the device.
    fn linear_backward<X: Shape, W: Shape>(
        &self,
        shape: &LinearShape,
        x: &Tensor<X, E, Self>,
        weight: &Tensor<W, E, Self>,
        dy: OutputGrad<'_, Self::Vec>,
        grads: LinearGrads<'_, Self::Vec>,
    ) -> Result<()>;
}

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
/// use dfdx::{prelude::*, tensor_ops::Backward as _};
/// use ssprop::ops::linear::{linear, Backward};
/// use ssprop::sparsity::DropRate;
///
/// let dev = Cpu::default();
/// let x: Tensor<Rank2<4, 6>, f32, _> = dev.sample_normal();
/// let w: Tensor<Rank2<10, 6>, f32, _> = dev.sample_normal();
/// let b: Tensor<Rank1<10>, f32, _> = dev.zeros();
/// let backward = Backward { drop_rate: DropRate::new(0.8)?, ..Backward::default() };
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
    backward: Backward,
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
    backward: Backward,
    count: Option<Arc<KeptCount>>,
) -> Result<Hidden<(B, Const<O>), E, D, T>> {
    let &(b, _) = x.shape();
    let shape = LinearShape {
        batch: b.size(),
        inputs: I,
        outputs: O,
    };
    let conv = shape.conv()?;
    let backward = Backward {
        masking: Masking::Channels,
        ..backward
    };
    let (x, tape) = x.split()?;
    let mut y = x.output((b, Const))?;
    let dev = x.tensor.device().clone();
    timed("linear, forward", || {
        dev.linear_forward(&shape, &x.tensor, weight, bias, y.tensor_mut())
    })?;

    let (w_ghost, bias_ghost) = (weight.ghost(), bias.map(|bias| bias.ghost()));
    let weight = weight.clone();
    Ok(Hidden::recorded(y, tape, move |dy, grads| {
        let dy = BackwardGradient::<O, E, D>::new(&dev, &conv, dy, &backward)
            .map_err(D::device_error)?;
        if let Some(count) = count {
            dy.count(&count);
        }
        let add = |into: LinearGrads<'_, <D as Storage<E>>::Vec>| {
            let dy = match into {
                LinearGrads::Input(..) => dy.for_input(),
                _ => dy.as_grad(),
            };
            timed("linear, backward", || {
                dev.linear_backward(&shape, &x.tensor, &weight, dy, into)
            })
        };
        if let Some(bias) = &bias_ghost {
            add(LinearGrads::Bias(grads.get_or_alloc_mut(bias)?)).map_err(D::device_error)?;
        }
        add(LinearGrads::Weight(grads.get_or_alloc_mut(&w_ghost)?)).map_err(D::device_error)?;
        if !backward.input_gradient {
            return Ok(());
        }
        x.grad.write(&dev, grads, shape.batch * I, |dx, fill| {
            add(LinearGrads::Input(dx, fill))
        })
    }))
}

#[cfg(test)]
mod tests;
