//! The convolution itself: y (C_out, P) = W (C_out, F) * windows (F, P).
//!
//! A task has images, or of an image alone some of the output channels; how many is no matter to the sums.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::CHUNK;
use super::blocks::{depths, Blocks, PIXELS};
use super::kernel::{Columns, Rows};
use super::packed::Packed;
use super::panels::Panels;
use super::windows::Windows;
use super::write::{write, Parts};
use crate::args::conv2d::{Conv2DShape, Epilogue};
use crate::args::Fill;
use crate::cpu::simd::Isa;

/// Up to so many pixels of output the weights are read where they lie: they are used too seldom for a copy.
const FEW_PIXELS: usize = 128;

/// y = f(conv(x, w) + bias + residual)
pub fn forward(
    isa: Isa,
    shape: &Conv2DShape,
    x: &[f32],
    w: &[f32],
    then: Epilogue<&[f32]>,
    y: &mut [f32],
) {
    let (p, f, k) = (shape.output_pixels(), shape.filter_len(), shape.group_out());
    let (c_in, width) = (shape.group_in(), shape.output()[1]);
    let (groups, batch) = (shape.op().groups, shape.batch());
    // Output channels that are computed together: a group's, or of an image alone a thread's share.
    let share = match batch {
        1 => k
            .div_ceil(rayon::current_num_threads())
            .next_multiple_of(CHUNK),
        _ => k,
    };
    let ends = |g: usize| (g * k..(g + 1) * k).step_by(share);
    let channels = (0..groups).flat_map(|g| ends(g).map(move |c| c..(c + share).min((g + 1) * k)));
    let channels: Vec<Range<usize>> = channels.collect();
    let columns: Vec<usize> = (0..f).collect();
    let rows: Vec<usize> = (0..shape.c_out()).map(|channel| channel * f).collect();
    let packs = batch * p > FEW_PIXELS;
    let packed =
        |c: &Range<usize>| Packed::new(isa, c.len(), f, &columns, &w[c.start * f..c.end * f]);
    let filters: Vec<Packed> = channels.iter().filter(|_| packs).map(packed).collect();
    let windows = Windows::of_input(shape, x);
    let taps = windows.taps();
    let blocks = Blocks::new(shape.output(), PIXELS);
    let parts = windows.parts(blocks.parts(), &[(0..taps).collect()]);

    // Which images, which of the channels, and where they go.
    let mut tasks = Vec::new();
    let mut rest = y;
    if batch == 1 {
        for (i, c) in channels.iter().enumerate() {
            let (own, others) = rest.split_at_mut(c.len() * p);
            tasks.push((0..1, i..i + 1, own));
            rest = others;
        }
    } else {
        let len = (blocks.images * shape.c_out() * p).max(1);
        for (block, y) in rest.chunks_mut(len).enumerate() {
            tasks.push((blocks.images(block, batch), 0..channels.len(), y));
        }
    }
    tasks.into_par_iter().for_each(|(images, which, y)| {
        let first = channels[which.start].start;
        for part in &parts {
            for i in which.clone() {
                let (c, g) = (&channels[i], channels[i].start / k);
                let to = Parts {
                    first: (c.start - first) * p + part.rows.start * width,
                    images: images.len(),
                    image: shape.c_out() * p,
                    row: p,
                    pixels: part.rows.len() * width,
                };
                let chunks = images.len() * to.pixels.div_ceil(CHUNK);
                write(y, to, c.len(), Fill::Overwrite, |mut y| {
                    for inputs in depths(c_in, taps) {
                        let (from, to) = (inputs.start * taps, inputs.end * taps);
                        let own = g * c_in + inputs.start..g * c_in + inputs.end;
                        let mut b = [Panels::new(chunks, to - from)];
                        windows.fill(isa, &mut b, images.clone(), own, part);
                        let right = b[0].rows_from(0);
                        match filters.get(i) {
                            Some(a) => y.add_product(isa, Columns { a, from, to }, right),
                            None => {
                                let left = Rows {
                                    data: w,
                                    rows: &rows[c.clone()],
                                    far: Some(f),
                                    segments: &[from],
                                    len: to - from,
                                };
                                y.add_product(isa, left, right);
                            }
                        }
                    }
                });
            }
        }
        if let Some(bias) = then.bias {
            for (i, plane) in y.chunks_mut(p).enumerate() {
                let bias = bias[(first + i) % shape.c_out()];
                plane.iter_mut().for_each(|y| *y += bias);
            }
        }
        then.finish((images.start * shape.c_out() + first) * p, y);
    });
}
