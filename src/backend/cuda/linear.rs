//! Linear maps on CUDA: matrix products.

use dfdx::tensor::Cuda;

use super::chunks::Chunks;
use crate::backend::linear::check;
use crate::backend::LinearKernel;
use crate::bridge::cuda::calls::{
    launch, multiply, tf32, Grid, Matrix, Product, Slice, SliceMut, ROWS,
};
use crate::bridge::cuda::with_workspace;
use crate::error::Result;
use crate::kernels::args::conv2d::KeptGrad;
use crate::kernels::args::linear::LinearShape;
use crate::kernels::args::{Fill, ImageDims};

/// A matrix with rows of `row` elements.
fn matrix(data: Slice<'_, f32>, row: usize) -> Matrix<'_> {
    Matrix {
        data,
        row,
        step: 0,
        transposed: false,
    }
}

/// Its transpose.
fn transposed(data: Slice<'_, f32>, row: usize) -> Matrix<'_> {
    Matrix {
        transposed: true,
        ..matrix(data, row)
    }
}

/// One product (m, k) x (k, n), written to a matrix of n columns.
fn product([m, k, n]: [usize; 3], add: bool) -> Product {
    Product {
        m,
        n,
        k,
        row: n,
        step: 0,
        count: 1,
        add,
        tf32: tf32().in_products(),
    }
}

fn check_grad(shape: &LinearShape, dy: &KeptGrad<Slice<f32>, Slice<u32>>) -> Result<()> {
    check(
        "dy",
        dy.data.len(),
        [shape.batch, dy.channels(shape.outputs)],
    )
}

impl LinearKernel<f32> for Cuda {
    // y (B, O) = x (B, I) wT (I, O) + bias
    fn linear_forward(
        shape: &LinearShape,
        x: Slice<f32>,
        weight: Slice<f32>,
        bias: Option<Slice<f32>>,
        y: SliceMut<f32>,
    ) -> Result<()> {
        let &LinearShape {
            batch,
            inputs,
            outputs,
        } = shape;
        check("x", x.len(), [batch, inputs])?;
        check("weight", weight.len(), [outputs, inputs])?;
        check("y", y.len(), [batch, outputs])?;
        if let Some(bias) = bias {
            check("bias", bias.len(), [outputs, 1])?;
            let args = [bias.into(), (&y).into(), y.len().into(), outputs.into()];
            launch(
                &ROWS,
                "bias_rows",
                y.device(),
                Grid::elements(y.len()),
                &args,
            )?;
        }
        let sizes = product([batch, inputs, outputs], bias.is_some());
        multiply(sizes, matrix(x, inputs), transposed(weight, inputs), &y)
    }

    // dX (B, I) (+)= dY (B, kept) w (kept, I)
    fn linear_backward_input(
        shape: &LinearShape,
        weight: Slice<f32>,
        dy: KeptGrad<Slice<f32>, Slice<u32>>,
        dx: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let &LinearShape {
            batch,
            inputs,
            outputs,
        } = shape;
        check("weight", weight.len(), [outputs, inputs])?;
        check_grad(shape, &dy)?;
        check("dx", dx.len(), [batch, inputs])?;
        let channels = dy.channels(outputs);
        let sizes = product([batch, channels, inputs], fill == Fill::Add);
        let grad = matrix(dy.data, channels);
        let Some(kept) = dy.kept else {
            return multiply(sizes, grad, matrix(weight, inputs), &dx);
        };
        with_workspace(dx.device(), channels * inputs, |rows| {
            let n = rows.len();
            let memory = [weight.into(), kept.into(), (&rows).into()];
            let args = [&memory[..], &[n.into(), channels.into(), inputs.into()]].concat();
            launch(&ROWS, "gather_rows", dx.device(), Grid::elements(n), &args)?;
            multiply(sizes, grad, matrix(rows.shared(), inputs), &dx)
        })
    }

    // dW (O, I) += dYT (kept, B) x (B, I), in the rows of kept features
    fn linear_backward_weight(
        shape: &LinearShape,
        x: Slice<f32>,
        dy: KeptGrad<Slice<f32>, Slice<u32>>,
        dw: SliceMut<f32>,
    ) -> Result<()> {
        let &LinearShape {
            batch,
            inputs,
            outputs,
        } = shape;
        check("x", x.len(), [batch, inputs])?;
        check_grad(shape, &dy)?;
        check("dw", dw.len(), [outputs, inputs])?;
        let channels = dy.channels(outputs);
        let sizes = product([channels, batch, inputs], dy.kept.is_none());
        let grad = transposed(dy.data, channels);
        let Some(kept) = dy.kept else {
            return multiply(sizes, grad, matrix(x, inputs), &dw);
        };
        with_workspace(dw.device(), channels * inputs, |rows| {
            multiply(sizes, grad, matrix(x, inputs), &rows)?;
            let n = rows.len();
            let memory = [(&rows).into(), kept.into(), (&dw).into()];
            let args = [&memory[..], &[n.into(), inputs.into()]].concat();
            launch(&ROWS, "scatter_rows", dw.device(), Grid::elements(n), &args)
        })
    }

    // db (O) += the sum of dY (B, kept) over the batch
    fn linear_backward_bias(
        shape: &LinearShape,
        dy: KeptGrad<Slice<f32>, Slice<u32>>,
        db: SliceMut<f32>,
    ) -> Result<()> {
        check_grad(shape, &dy)?;
        check("db", db.len(), [shape.outputs, 1])?;
        let chunks = Chunks::of(ImageDims {
            batch: shape.batch,
            channels: dy.channels(shape.outputs),
            plane: 1,
        });
        chunks.bias(dy.data, dy.kept, (&db).into())
    }
}
