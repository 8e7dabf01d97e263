//! The convolution itself: y (C_out, P) = W (C_out, F) * windows (F, P).

use rayon::prelude::*;

use super::blocks::CHUNK;
use super::blocks::{depths, Blocks, PIXELS};
use super::kernel::Columns;
use super::packed::Packed;
use super::panels::Panels;
use super::windows::Windows;
use super::write::{write, Parts};
use crate::args::conv2d::Conv2DShape;
use crate::args::Fill;
use crate::cpu::simd::Isa;

/// y = conv(x, w) + bias
pub fn forward(
    isa: Isa,
    shape: &Conv2DShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let (p, f, k) = (shape.output_pixels(), shape.filter_len(), shape.group_out());
    let (c_in, width) = (shape.group_in(), shape.output()[1]);
    let columns: Vec<usize> = (0..f).collect();
    let filters: Vec<Packed> = (0..shape.op().groups)
        .map(|g| Packed::new(isa, k, f, &columns, &w[g * k * f..(g + 1) * k * f]))
        .collect();
    let windows = Windows::of_input(shape, x);
    let taps = windows.taps();
    let blocks = Blocks::new(shape.output(), PIXELS);
    let parts = windows.parts(blocks.parts(), &[(0..taps).collect()]);
    y.par_chunks_mut((blocks.images * shape.c_out() * p).max(1))
        .enumerate()
        .for_each(|(block, y)| {
            let images = blocks.images(block, shape.batch());
            for part in &parts {
                for (g, a) in filters.iter().enumerate() {
                    let to = Parts {
                        first: g * k * p + part.rows.start * width,
                        images: images.len(),
                        image: shape.c_out() * p,
                        row: p,
                        pixels: part.rows.len() * width,
                    };
                    let chunks = images.len() * to.pixels.div_ceil(CHUNK);
                    write(y, to, k, Fill::Overwrite, |mut y| {
                        for channels in depths(c_in, taps) {
                            let (from, to) = (channels.start * taps, channels.end * taps);
                            let own = g * c_in + channels.start..g * c_in + channels.end;
                            let mut b = [Panels::new(chunks, to - from)];
                            windows.fill(isa, &mut b, images.clone(), own, part);
                            y.add_product(isa, Columns { a, from, to }, b[0].rows_from(0));
                        }
                    });
                }
            }
            if let Some(bias) = bias {
                for (i, plane) in y.chunks_mut(p).enumerate() {
                    let bias = bias[i % shape.c_out()];
                    plane.iter_mut().for_each(|y| *y += bias);
                }
            }
        });
}
