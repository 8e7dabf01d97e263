//! The kernels of linear maps.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{Ranking, View, ViewMut, Views};
use crate::error::{Error, Result};
use crate::kernels::args::conv2d::{KeptGrad, OutputGrad};
use crate::kernels::args::linear::LinearShape;
use crate::kernels::args::Fill;
use crate::kernels::cpu::linear;

/// Linear maps, whose backward pass may have only some of the output features.
pub trait LinearKernel<E: Dtype>: Views<E> + Ranking {
    /// y (B, O) = x (B, I) weightT (I, O) + bias (O)
    ///
    /// # Errors
    /// [`Error::Shape`] for memory that has not the size that `shape` says, here and below.
    fn linear_forward(
        shape: &LinearShape,
        x: View<'_, E, Self>,
        weight: View<'_, E, Self>,
        bias: Option<View<'_, E, Self>>,
        y: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// dX (B, I) += dY (B, kept) weight (kept, I), or dX = it
    ///
    /// # Errors
    /// [`Error::Shape`] too for features kept of another number than O, where the host can tell.
    fn linear_backward_input(
        shape: &LinearShape,
        weight: View<'_, E, Self>,
        dy: KeptGrad<View<'_, E, Self>, Self::KeptView<'_>>,
        dx: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;

    /// dW (O, I) += dYT (kept, B) x (B, I), in the rows of kept features
    ///
    /// # Errors
    /// As [`linear_backward_input`](Self::linear_backward_input).
    fn linear_backward_weight(
        shape: &LinearShape,
        x: View<'_, E, Self>,
        dy: KeptGrad<View<'_, E, Self>, Self::KeptView<'_>>,
        dw: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// db (O) += the sum of dY (B, kept) over the batch, of kept features
    ///
    /// # Errors
    /// As [`linear_backward_input`](Self::linear_backward_input).
    fn linear_backward_bias(
        shape: &LinearShape,
        dy: KeptGrad<View<'_, E, Self>, Self::KeptView<'_>>,
        db: ViewMut<'_, E, Self>,
    ) -> Result<()>;
}

on_cpu!(LinearKernel {
    fn linear_forward(
        shape: &LinearShape,
        x: &[E],
        weight: &[E],
        bias: Option<&[E]>,
        y: &mut [E],
    ) -> Result<()> {
        check("x", x.len(), [shape.batch, shape.inputs])?;
        check("weight", weight.len(), [shape.outputs, shape.inputs])?;
        if let Some(bias) = bias {
            check("bias", bias.len(), [shape.outputs, 1])?;
        }
        check("y", y.len(), [shape.batch, shape.outputs])?;
        linear::forward(shape, x, weight, bias, y);
        Ok(())
    }

    fn linear_backward_input(
        shape: &LinearShape,
        weight: &[E],
        dy: OutputGrad<'_, &[E]>,
        dx: &mut [E],
        fill: Fill,
    ) -> Result<()> {
        check("weight", weight.len(), [shape.outputs, shape.inputs])?;
        check_grad(shape, dy)?;
        check("dx", dx.len(), [shape.batch, shape.inputs])?;
        linear::backward_input(shape, weight, dy, dx, fill);
        Ok(())
    }

    fn linear_backward_weight(
        shape: &LinearShape,
        x: &[E],
        dy: OutputGrad<'_, &[E]>,
        dw: &mut [E],
    ) -> Result<()> {
        check("x", x.len(), [shape.batch, shape.inputs])?;
        check_grad(shape, dy)?;
        check("dw", dw.len(), [shape.outputs, shape.inputs])?;
        linear::backward_weight(shape, x, dy, dw);
        Ok(())
    }

    fn linear_backward_bias(
        shape: &LinearShape,
        dy: OutputGrad<'_, &[E]>,
        db: &mut [E],
    ) -> Result<()> {
        check_grad(shape, dy)?;
        check("db", db.len(), [shape.outputs, 1])?;
        linear::backward_bias(dy, db);
        Ok(())
    }
});

/// That memory has as many elements as its shape asks for.
pub(super) fn check(what: &'static str, found: usize, shape: [usize; 2]) -> Result<()> {
    if Some(found) == shape[0].checked_mul(shape[1]) {
        return Ok(());
    }
    Err(Error::Shape {
        op: "linear",
        what,
        expected: format!("{shape:?}"),
        found: format!("{found} elements"),
    })
}

fn check_grad<E>(shape: &LinearShape, dy: OutputGrad<'_, &[E]>) -> Result<()> {
    let channels = dy.channels(shape.outputs);
    check("dy", dy.data.len(), [shape.batch, channels])?;
    Ok(dy.check_kept(shape.outputs)?)
}
