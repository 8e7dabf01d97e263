//! Which algorithm serves which shape.

use super::winograd::{Filters, Planes, Write};
use super::{gemm, unfold, winograd};
use crate::args::conv2d::{Conv2DShape, Epilogue, OutputGrad};
use crate::args::Fill;
use crate::cpu::element::Element;
use crate::cpu::simd::Isa;

/// An element type's convolution on slices of the sizes that `shape` says.
pub trait Algorithms: Element {
    /// y = f(conv(x, w) + bias + residual)
    fn forward(
        shape: &Conv2DShape,
        x: &[Self],
        w: &[Self],
        then: Epilogue<&[Self]>,
        y: &mut [Self],
    );
    /// dX (+)= conv-transpose(dY, w)
    fn backward_input(
        shape: &Conv2DShape,
        w: &[Self],
        dy: OutputGrad<'_, &[Self]>,
        dx: &mut [Self],
        fill: Fill,
    );
    /// dW += correlation(x, dY); rows of dropped channels stay as they are
    fn backward_weight(
        shape: &Conv2DShape,
        x: &[Self],
        dy: OutputGrad<'_, &[Self]>,
        dw: &mut [Self],
    );
}

impl Algorithms for f64 {
    fn forward(shape: &Conv2DShape, x: &[f64], w: &[f64], then: Epilogue<&[f64]>, y: &mut [f64]) {
        unfold::forward(shape, x, w, then.bias, y);
        then.finish(0, y);
    }
    fn backward_input(
        shape: &Conv2DShape,
        w: &[f64],
        dy: OutputGrad<'_, &[f64]>,
        dx: &mut [f64],
        fill: Fill,
    ) {
        unfold::backward_input(shape, w, dy, dx, fill);
    }
    fn backward_weight(shape: &Conv2DShape, x: &[f64], dy: OutputGrad<'_, &[f64]>, dw: &mut [f64]) {
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

/// Winograd where it applies and its tiles are not mostly padding: the transforms cost a few
/// channels' worth of products, so thin layers (the stem) are better off without.
fn algorithm(shape: &Conv2DShape) -> Algorithm {
    let op = &shape.op();
    let same_3x3 =
        op.kernel == 3 && op.stride == 1 && op.padding == 1 && op.dilation == 1 && op.groups == 1;
    let wide = shape.c_in() >= 8 && shape.c_out() >= 8;
    let large = shape.input()[0] >= 3 && shape.input()[1] >= 3;
    if same_3x3 && wide && large && shape.winograd() {
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

impl Algorithms for f32 {
    fn forward(shape: &Conv2DShape, x: &[f32], w: &[f32], then: Epilogue<&[f32]>, y: &mut [f32]) {
        match algorithm(shape) {
            Algorithm::Winograd => {
                let planes = Planes {
                    batch: shape.batch(),
                    size: shape.input(),
                    from: shape.c_in(),
                    to: shape.c_out(),
                };
                let filters = Filters::Forward {
                    w,
                    c_in: shape.c_in(),
                };
                winograd::conv(Isa::detect(), planes, x, filters, y, Write::Overwrite(then));
            }
            Algorithm::Gemm => gemm::forward(Isa::detect(), shape, x, w, then, y),
        }
    }

    fn backward_input(
        shape: &Conv2DShape,
        w: &[f32],
        dy: OutputGrad<'_, &[f32]>,
        dx: &mut [f32],
        fill: Fill,
    ) {
        match input_algorithm(shape, dy.channels(shape.c_out())) {
            Algorithm::Winograd => {
                let planes = Planes {
                    batch: shape.batch(),
                    size: shape.input(),
                    from: dy.channels(shape.c_out()),
                    to: shape.c_in(),
                };
                let filters = Filters::Backward {
                    w,
                    c_in: shape.c_in(),
                    kept: dy.kept,
                };
                let write = match fill {
                    Fill::Add => Write::Accumulate,
                    Fill::Overwrite => Write::Overwrite(Epilogue::bias(None)),
                };
                winograd::conv(Isa::detect(), planes, dy.data, filters, dx, write);
            }
            Algorithm::Gemm => {
                gemm::backward_input(Isa::detect(), shape, w, dy, dx, fill);
            }
        }
    }

    fn backward_weight(shape: &Conv2DShape, x: &[f32], dy: OutputGrad<'_, &[f32]>, dw: &mut [f32]) {
        match algorithm(shape) {
            Algorithm::Winograd => {
                let planes = Planes {
                    batch: shape.batch(),
                    size: shape.input(),
                    from: shape.c_in(),
                    to: dy.channels(shape.c_out()),
                };
                winograd::gradient(Isa::detect(), planes, x, dy, dw);
            }
            Algorithm::Gemm => gemm::backward_weight(Isa::detect(), shape, x, dy, dw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::conv2d::Conv2DOp;

    #[test]
    fn winograd_serves_wide_3x3_layers_of_stride_1() {
        let choose = |kernel, stride, c_in| {
            let op = Conv2DOp {
                kernel,
                stride,
                padding: kernel / 2,
                dilation: 1,
                groups: 1,
            };
            algorithm(&Conv2DShape::new(op, [2, c_in, 6, 6], 9).unwrap())
        };
        assert_eq!(choose(3, 1, 8), Algorithm::Winograd);
        for (kernel, stride, c_in) in [(3, 2, 8), (1, 1, 8), (5, 1, 8), (3, 1, 7)] {
            assert_eq!(choose(kernel, stride, c_in), Algorithm::Gemm);
        }
    }
}
