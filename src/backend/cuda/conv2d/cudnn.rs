//! Convolutions on CUDA by cuDNN. Each function says whether cuDNN has an algorithm for its shape, and the device memory
//! for it; if not, nothing is computed.

use super::{add_bias, gather_rows, is_countable, scatter_rows, Gradient};
use crate::bridge::cuda::calls::{Pass, Planned, Slice, SliceMut};
use crate::bridge::cuda::{has_workspace, with_workspace};
use crate::error::Result;
use crate::kernels::args::conv2d::Conv2DShape;
use crate::kernels::args::Fill;

/// The plan of a product of the `channels` that are kept, in a workspace that holds `further` elements too. Of several
/// groups the host does not know how many channels of each those are.
fn planned(
    device: i32,
    shape: &Conv2DShape,
    channels: usize,
    further: usize,
    pass: Pass,
) -> Result<Option<Planned>> {
    let all = channels == shape.c_out();
    let is_known = all || shape.op().groups == 1;
    if shape.batch() == 0 || channels == 0 || !is_known || !is_countable(shape) {
        return Ok(None);
    }
    let shrunk = Conv2DShape::new(shape.op(), shape.x(), channels)?;
    let planned = Planned::new(device, &shrunk, pass)?;
    Ok(planned.filter(|planned| has_workspace(device, planned.workspace() + further)))
}

// y (B, C_out, P) = conv(x, w) + bias
pub(super) fn forward(
    shape: &Conv2DShape,
    x: Slice<f32>,
    weight: Slice<f32>,
    bias: Option<Slice<f32>>,
    y: &SliceMut<f32>,
) -> Result<bool> {
    let device = y.device();
    let Some(planned) = planned(device, shape, shape.c_out(), 0, Pass::Forward)? else {
        return Ok(false);
    };
    with_workspace(device, planned.workspace(), |memory| {
        Ok(planned.run(x, weight, &memory, y, Fill::Overwrite)?)
    })?;
    if let Some(bias) = bias {
        add_bias(shape, bias, y)?;
    }
    Ok(true)
}

// dX (B, C_in, H W) (+)= the transposed convolution of dY (B, kept, P) with w's rows (kept, F)
pub(super) fn backward_input(
    shape: &Conv2DShape,
    weight: Slice<f32>,
    dy: Gradient,
    dx: &SliceMut<f32>,
    fill: Fill,
) -> Result<bool> {
    let device = dx.device();
    let filter = shape.filter_len();
    let filters = dy.kept.map_or(0, |_| dy.channels * filter);
    let Some(planned) = planned(device, shape, dy.channels, filters, Pass::BackwardInput)? else {
        return Ok(false);
    };
    with_workspace(device, planned.workspace() + filters, |mut memory| {
        let (workspace, rows) = memory.split_at(planned.workspace());
        let Some(kept) = dy.kept else {
            return Ok(planned.run(weight, dy.dy, &workspace, dx, fill)?);
        };
        gather_rows(weight, kept, filter, &rows)?;
        Ok(planned.run(rows.shared(), dy.dy, &workspace, dx, fill)?)
    })?;
    Ok(true)
}

// dW (kept, F) += the correlation of x with dY (B, kept, P)
pub(super) fn backward_weight(
    shape: &Conv2DShape,
    x: Slice<f32>,
    dy: Gradient,
    dw: &SliceMut<f32>,
) -> Result<bool> {
    let device = dw.device();
    let filter = shape.filter_len();
    let filters = dy.kept.map_or(0, |_| dy.channels * filter);
    let Some(planned) = planned(device, shape, dy.channels, filters, Pass::BackwardWeight)? else {
        return Ok(false);
    };
    with_workspace(device, planned.workspace() + filters, |mut memory| {
        let (workspace, shrunk) = memory.split_at(planned.workspace());
        let Some(kept) = dy.kept else {
            return Ok(planned.run(x, dy.dy, &workspace, dw, Fill::Add)?);
        };
        planned.run(x, dy.dy, &workspace, &shrunk, Fill::Overwrite)?;
        scatter_rows(shrunk.shared(), kept, filter, dw)
    })?;
    Ok(true)
}
