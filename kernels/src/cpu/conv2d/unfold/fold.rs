//! Between an image's plane and the columns of its windows.

use crate::args::conv2d::Conv2DShape;
use crate::cpu::element::Element;

/// The output positions `lo..hi` along one axis whose tap `k` falls inside the image, and the
/// first one's input position.
fn inside(k: usize, shape: &Conv2DShape, axis: usize) -> (usize, usize, usize) {
    let op = &shape.op();
    let at = k * op.dilation;
    let lo = op.padding.saturating_sub(at).div_ceil(op.stride);
    // The last output position whose input position is below the size.
    let hi = (shape.input()[axis] + op.padding)
        .saturating_sub(at)
        .div_ceil(op.stride)
        .min(shape.output()[axis]);
    let lo = lo.min(hi);
    (lo, hi, (lo * op.stride + at).saturating_sub(op.padding))
}

/// One channel's plane to its K * K rows of the columns, `row_len` apart.
pub fn unfold<E: Element>(shape: &Conv2DShape, plane: &[E], columns: &mut [E], row_len: usize) {
    let (kernel, stride) = (shape.op().kernel, shape.op().stride);
    let [_, w] = shape.input();
    let [_, w_out] = shape.output();
    for i in 0..kernel {
        let (y0, y1, iy) = inside(i, shape, 0);
        for j in 0..kernel {
            let (x0, x1, ix) = inside(j, shape, 1);
            let start = (i * kernel + j) * row_len;
            let row = &mut columns[start..start + shape.output_pixels()];
            row[..y0 * w_out].fill(E::zero());
            row[y1 * w_out..].fill(E::zero());
            for y in y0..y1 {
                let to = &mut row[y * w_out..(y + 1) * w_out];
                let from = &plane[(iy + (y - y0) * stride) * w..][..w];
                to[..x0].fill(E::zero());
                to[x1..].fill(E::zero());
                if x0 == x1 {
                } else if stride == 1 {
                    to[x0..x1].copy_from_slice(&from[ix..ix + x1 - x0]);
                } else if stride == 2 {
                    // The commonest stride, known to the compiler.
                    for (to, from) in to[x0..x1].iter_mut().zip(from[ix..].chunks(2)) {
                        *to = from[0];
                    }
                } else {
                    for (to, &from) in to[x0..x1].iter_mut().zip(from[ix..].iter().step_by(stride))
                    {
                        *to = from;
                    }
                }
            }
        }
    }
}

/// Adds one channel's K * K rows of the columns to its plane.
pub fn fold<E: Element>(shape: &Conv2DShape, columns: &[E], row_len: usize, plane: &mut [E]) {
    let (kernel, stride) = (shape.op().kernel, shape.op().stride);
    let [_, w] = shape.input();
    let [_, w_out] = shape.output();
    for i in 0..kernel {
        let (y0, y1, iy) = inside(i, shape, 0);
        for j in 0..kernel {
            let (x0, x1, ix) = inside(j, shape, 1);
            let row = &columns[(i * kernel + j) * row_len..];
            for y in y0..y1 {
                let from = &row[y * w_out + x0..y * w_out + x1];
                let to = &mut plane[(iy + (y - y0) * stride) * w..][..w];
                if from.is_empty() {
                } else if stride == 1 {
                    for (to, &from) in to[ix..].iter_mut().zip(from) {
                        *to += from;
                    }
                } else if stride == 2 {
                    for (to, &from) in to[ix..].chunks_mut(2).zip(from) {
                        to[0] += from;
                    }
                } else {
                    for (to, &from) in to[ix..].iter_mut().step_by(stride).zip(from) {
                        *to += from;
                    }
                }
            }
        }
    }
}
