//! Convolution on the CPU: which algorithm serves which shape.

use std::sync::atomic::{AtomicBool, Ordering};

use dfdx::shapes::{Dtype, Shape};
use dfdx::tensor::{Cpu, Storage, Tensor};
use rayon::prelude::*;

use super::geometry::{Conv2DShape, OutputGrad};
use super::winograd::{self, Filters, Planes, Write};
use super::{channels, gemm, masked, unfold, Conv2DGrads, Conv2DKernel};
use crate::bridge::storage;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::ops::Fill;
use crate::simd::Isa;

/// An element type's convolution on slices.
pub trait CpuConv2D: Element {
    /// y = conv(x, w) + bias
    fn forward(shape: &Conv2DShape, x: &[Self], w: &[Self], bias: Option<&[Self]>, y: &mut [Self]);
    /// dX (+)= conv-transpose(dY, w)
    fn backward_input(
        shape: &Conv2DShape,
        w: &[Self],
        dy: OutputGrad<'_, [Self]>,
        dx: &mut [Self],
        fill: Fill,
    );
    /// dW += correlation(x, dY); rows of dropped channels stay as they are
    fn backward_weight(
        shape: &Conv2DShape,
        x: &[Self],
        dy: OutputGrad<'_, [Self]>,
        dw: &mut [Self],
    );
}

impl CpuConv2D for f64 {
    fn forward(shape: &Conv2DShape, x: &[f64], w: &[f64], bias: Option<&[f64]>, y: &mut [f64]) {
        unfold::forward(shape, x, w, bias, y);
    }
    fn backward_input(
        shape: &Conv2DShape,
        w: &[f64],
        dy: OutputGrad<'_, [f64]>,
        dx: &mut [f64],
        fill: Fill,
    ) {
        unfold::backward_input(shape, w, dy, dx, fill);
    }
    fn backward_weight(shape: &Conv2DShape, x: &[f64], dy: OutputGrad<'_, [f64]>, dw: &mut [f64]) {
        unfold::backward_weight(shape, x, dy, dw);
    }
}

/// The algorithms for `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    /// Minimal filtering: a quarter of the multiplications.
    Winograd,
    /// Matrix products: every geometry.
    Gemm,
}

static WINOGRAD: AtomicBool = AtomicBool::new(true);

/// Whether `f32` convolutions of 3x3 windows with stride 1 use Winograd's algorithm on the CPU, in
/// the whole process; they do at first. Without it they are slower, and their rounding errors are
/// those of a plain sum (see [`conv2d`](super::conv2d)).
pub fn use_winograd(on: bool) {
    WINOGRAD.store(on, Ordering::Relaxed);
}

/// Winograd where it applies and its tiles are not mostly padding: the transforms cost a few
/// channels' worth of products, so thin layers (the stem) are better off without.
fn algorithm(shape: &Conv2DShape) -> Algorithm {
    let op = &shape.op;
    let same_3x3 =
        op.kernel == 3 && op.stride == 1 && op.padding == 1 && op.dilation == 1 && op.groups == 1;
    let wide = shape.c_in >= 8 && shape.c_out >= 8;
    let large = shape.input[0] >= 3 && shape.input[1] >= 3;
    if same_3x3 && wide && large && WINOGRAD.load(Ordering::Relaxed) {
        Algorithm::Winograd
    } else {
        Algorithm::Gemm
    }
}

/// The algorithm for dX, from `channels` of the gradient's. With few of them Winograd's transforms
/// (of vectors of 16 channels, whether they are there or not) cost more than its products save: 3
/// channels, 64 images of 32x32, 32 input channels: 0.55 ms by plain products, 1.07 ms by Winograd;
/// 6 channels are even.
fn input_algorithm(shape: &Conv2DShape, channels: usize) -> Algorithm {
    match channels {
        ..=4 => Algorithm::Gemm,
        _ => algorithm(shape),
    }
}

impl CpuConv2D for f32 {
    fn forward(shape: &Conv2DShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        match algorithm(shape) {
            Algorithm::Winograd => {
                let planes = Planes {
                    batch: shape.batch,
                    size: shape.input,
                    from: shape.c_in,
                    to: shape.c_out,
                };
                let filters = Filters::Forward {
                    w,
                    c_in: shape.c_in,
                };
                winograd::conv(Isa::detect(), planes, x, filters, y, Write::Bias(bias));
            }
            Algorithm::Gemm => gemm::forward(Isa::detect(), shape, x, w, bias, y),
        }
    }

    fn backward_input(
        shape: &Conv2DShape,
        w: &[f32],
        dy: OutputGrad<'_, [f32]>,
        dx: &mut [f32],
        fill: Fill,
    ) {
        match input_algorithm(shape, dy.channels(shape.c_out)) {
            Algorithm::Winograd => {
                let planes = Planes {
                    batch: shape.batch,
                    size: shape.input,
                    from: dy.channels(shape.c_out),
                    to: shape.c_in,
                };
                let filters = Filters::Backward {
                    w,
                    c_in: shape.c_in,
                    kept: dy.kept,
                };
                let write = match fill {
                    Fill::Add => Write::Accumulate,
                    Fill::Overwrite => Write::Bias(None),
                };
                winograd::conv(Isa::detect(), planes, dy.data, filters, dx, write);
            }
            Algorithm::Gemm => {
                gemm::backward_input(Isa::detect(), shape, w, dy, dx, fill);
            }
        }
    }

    fn backward_weight(shape: &Conv2DShape, x: &[f32], dy: OutputGrad<'_, [f32]>, dw: &mut [f32]) {
        match algorithm(shape) {
            Algorithm::Winograd => {
                let planes = Planes {
                    batch: shape.batch,
                    size: shape.input,
                    from: shape.c_in,
                    to: dy.channels(shape.c_out),
                };
                winograd::gradient(Isa::detect(), planes, x, dy.data, dy.kept, dw);
            }
            Algorithm::Gemm => gemm::backward_weight(Isa::detect(), shape, x, dy, dw),
        }
    }
}

impl<E: Dtype + CpuConv2D> Conv2DKernel<E> for Cpu {
    fn conv2d_forward<X: Shape, W: Shape, B: Shape, Y: Shape>(
        &self,
        shape: &Conv2DShape,
        x: &Tensor<X, E, Self>,
        weight: &Tensor<W, E, Self>,
        bias: Option<&Tensor<B, E, Self>>,
        y: &mut Tensor<Y, E, Self>,
    ) -> Result<()> {
        let x = storage::as_slice("conv2d: x", x)?;
        let weight = storage::as_slice("conv2d: weight", weight)?;
        let bias = bias
            .map(|bias| storage::as_slice("conv2d: bias", bias))
            .transpose()?;
        shape.check()?;
        check_len("x", x.len(), &shape.x())?;
        check_len("weight", weight.len(), &shape.weight())?;
        if let Some(bias) = bias {
            check_len("bias", bias.len(), &[shape.c_out])?;
        }
        let out = storage::as_mut_slice("conv2d: y", y)?;
        check_len("y", out.len(), &shape.y(shape.c_out))?;
        E::forward(shape, x, weight, bias, out);
        Ok(())
    }

    fn channel_importance(
        &self,
        dy: &<Self as Storage<E>>::Vec,
        channels: usize,
        pixels: usize,
    ) -> Result<Vec<f64>> {
        Ok(channels::importance(dy, channels, pixels))
    }

    fn gather_channels(
        &self,
        dy: &<Self as Storage<E>>::Vec,
        channels: usize,
        pixels: usize,
        kept: &[usize],
        shrunk: &mut <Self as Storage<E>>::Vec,
    ) -> Result<()> {
        shrunk
            .par_chunks_mut((kept.len() * pixels).max(1))
            .zip(dy.par_chunks((channels * pixels).max(1)))
            .for_each(|(to, from)| {
                for (to, &c) in to.chunks_mut(pixels).zip(kept) {
                    to.copy_from_slice(&from[c * pixels..][..pixels]);
                }
            });
        Ok(())
    }

    fn column_importance(
        &self,
        dy: &<Self as Storage<E>>::Vec,
        columns: usize,
    ) -> Result<Vec<f64>> {
        Ok(masked::importance(dy, columns))
    }

    fn mask_columns(
        &self,
        dy: &<Self as Storage<E>>::Vec,
        columns: usize,
        kept: &[usize],
        masked: &mut <Self as Storage<E>>::Vec,
    ) -> Result<()> {
        masked::mask(dy, columns, kept, masked);
        Ok(())
    }

    fn zero_dropped(
        &self,
        dy: &mut <Self as Storage<E>>::Vec,
        channels: usize,
        pixels: usize,
        kept: &[usize],
    ) -> Result<()> {
        masked::zero_dropped(dy, channels, pixels, kept);
        Ok(())
    }

    fn scale(&self, dy: &mut <Self as Storage<E>>::Vec, factor: f64) -> Result<()> {
        masked::scale(dy, factor);
        Ok(())
    }

    fn conv2d_backward<X: Shape, W: Shape>(
        &self,
        shape: &Conv2DShape,
        x: &Tensor<X, E, Self>,
        weight: &Tensor<W, E, Self>,
        dy: OutputGrad<'_, <Self as Storage<E>>::Vec>,
        grads: Conv2DGrads<'_, <Self as Storage<E>>::Vec>,
    ) -> Result<()> {
        let x = storage::as_slice("conv2d: x", x)?;
        let weight = storage::as_slice("conv2d: weight", weight)?;
        let dy = OutputGrad {
            data: &dy.data[..],
            kept: dy.kept,
        };
        // The kernels write through pointers, on the strength of these checks.
        shape.check()?;
        check_len("x", x.len(), &shape.x())?;
        check_len("weight", weight.len(), &shape.weight())?;
        check_len("dy", dy.data.len(), &shape.y(dy.channels(shape.c_out)))?;
        check_kept(shape, dy.kept)?;
        match grads {
            Conv2DGrads::Input(dx, fill) => {
                check_len("dx", dx.len(), &shape.x())?;
                E::backward_input(shape, weight, dy, dx, fill);
            }
            Conv2DGrads::Weight(dw) => {
                check_len("dw", dw.len(), &shape.weight())?;
                E::backward_weight(shape, x, dy, dw);
            }
            Conv2DGrads::Bias(db) => {
                check_len("db", db.len(), &[shape.c_out])?;
                channels::backward_bias(shape, dy, db);
            }
        }
        Ok(())
    }
}

/// That a tensor's storage has as many elements as its shape asks for.
fn check_len(what: &'static str, found: usize, shape: &[usize]) -> Result<()> {
    if found == shape.iter().product::<usize>() {
        return Ok(());
    }
    Err(Error::Shape {
        op: "conv2d",
        what,
        expected: format!("{shape:?}"),
        found: format!("{found} elements"),
    })
}

/// That kept channels are ascending, unique and below C_out.
fn check_kept(shape: &Conv2DShape, kept: Option<&[usize]>) -> Result<()> {
    let kept = kept.unwrap_or_default();
    let ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
    if ascending && kept.last().is_none_or(|&last| last < shape.c_out) {
        return Ok(());
    }
    Err(Error::parameter(
        "kept channels",
        format_args!("{kept:?} of {}", shape.c_out),
        "ascending, unique and less than the number of channels",
    ))
}

#[cfg(test)]
mod tests;
