//! Plain loops in `f64`, the oracle of the tests (which are not optimised: these are compiled here).
//! Every gradient is added to what is there.

use crate::args::conv2d::{Conv2DShape, OutputGrad};

/// Calls `tap(y, x, i, j)` for every pair of an output pixel `y` and an input pixel `x` of one
/// channel that the kernel's tap (i, j) joins.
fn for_each_tap(shape: &Conv2DShape, mut tap: impl FnMut(usize, usize, usize)) {
    let op = &shape.op();
    let at = |out: usize, k: usize, size: usize| {
        (out * op.stride + k * op.dilation)
            .checked_sub(op.padding)
            .filter(|&at| at < size)
    };
    for oy in 0..shape.output()[0] {
        for ox in 0..shape.output()[1] {
            for i in 0..op.kernel {
                for j in 0..op.kernel {
                    let (iy, ix) = (at(oy, i, shape.input()[0]), at(ox, j, shape.input()[1]));
                    if let (Some(iy), Some(ix)) = (iy, ix) {
                        tap(
                            oy * shape.output()[1] + ox,
                            iy * shape.input()[1] + ix,
                            i * op.kernel + j,
                        );
                    }
                }
            }
        }
    }
}

/// Calls `f` with the offsets of x, weight and y's planes for every (image, output channel, input
/// channel) that belong together; the output channels are `channels`.
fn for_each_plane(
    shape: &Conv2DShape,
    channels: &[usize],
    mut f: impl FnMut(usize, usize, usize, usize),
) {
    let taps = shape.op().kernel * shape.op().kernel;
    for b in 0..shape.batch() {
        for (slot, &k) in channels.iter().enumerate() {
            let group = k / shape.group_out();
            for c in 0..shape.group_in() {
                let c_in = group * shape.group_in() + c;
                f(
                    (b * shape.c_in() + c_in) * shape.input_pixels(),
                    (k * shape.group_in() + c) * taps,
                    (b * channels.len() + slot) * shape.output_pixels(),
                    k,
                );
            }
        }
    }
}

/// y = conv(x, weight) + bias
pub fn forward(shape: &Conv2DShape, x: &[f64], w: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
    let mut y = vec![0.0; shape.batch() * shape.c_out() * shape.output_pixels()];
    if let Some(bias) = bias {
        for (i, plane) in y.chunks_mut(shape.output_pixels()).enumerate() {
            plane.fill(bias[i % shape.c_out()]);
        }
    }
    let all: Vec<usize> = (0..shape.c_out()).collect();
    for_each_plane(shape, &all, |x0, w0, y0, _| {
        for_each_tap(shape, |oy, ix, t| {
            y[y0 + oy] += x[x0 + ix] * w[w0 + t];
        });
    });
    y
}

/// dX += conv-transpose(dY, weight)
pub fn backward_input(shape: &Conv2DShape, w: &[f64], dy: OutputGrad<'_, &[f64]>, dx: &mut [f64]) {
    let all: Vec<usize> = (0..shape.c_out()).collect();
    for_each_plane(shape, dy.kept.map_or(&all, |kept| kept), |x0, w0, y0, _| {
        for_each_tap(shape, |oy, ix, t| {
            dx[x0 + ix] += dy.data[y0 + oy] * w[w0 + t];
        });
    });
}

/// dW += correlation(x, dY); rows of dropped channels stay as they are
pub fn backward_weight(shape: &Conv2DShape, x: &[f64], dy: OutputGrad<'_, &[f64]>, dw: &mut [f64]) {
    let all: Vec<usize> = (0..shape.c_out()).collect();
    for_each_plane(shape, dy.kept.map_or(&all, |kept| kept), |x0, w0, y0, _| {
        for_each_tap(shape, |oy, ix, t| {
            dw[w0 + t] += dy.data[y0 + oy] * x[x0 + ix];
        });
    });
}

/// db += sum of dY over batch, height and width; dropped channels stay as they are
pub fn backward_bias(shape: &Conv2DShape, dy: OutputGrad<'_, &[f64]>, db: &mut [f64]) {
    let channels = dy.channels(shape.c_out());
    for (i, plane) in dy.data.chunks(shape.output_pixels()).enumerate() {
        let k = dy.kept.map_or(i % channels, |kept| kept[i % channels]);
        db[k] = plane.iter().fold(db[k], |sum, &g| sum + g);
    }
}
