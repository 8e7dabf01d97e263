//! dW of the indirect convolution.

use rayon::prelude::*;

use super::kernel::{Segmented, CHUNK};
use super::transposed::transposed;
use super::{Blocks, Copies};
use crate::ops::conv2d::geometry::{Conv2DShape, OutputGrad};
use crate::simd::Isa;
use crate::workspace::{Shared, Workspace};

/// Partial sums of dW, at most, and the elements of all of them, about.
const MAX_PARTS: usize = 8;
const MAX_SUMS: usize = 1 << 20;
/// Rows of dWt that a task computes, at least.
const TASK_ROWS: usize = 64;

/// dW += correlation(x, dY); rows of dropped channels stay as they are
pub fn backward_weight(
    isa: Isa,
    shape: &Conv2DShape,
    x: &[f32],
    dy: OutputGrad<'_, [f32]>,
    dw: &mut [f32],
) {
    let (p, f, taps) = (
        shape.output_pixels(),
        shape.filter_len(),
        shape.op.kernel * shape.op.kernel,
    );
    let channels = dy.channels(shape.c_out);
    let task_channels = TASK_ROWS.div_ceil(taps).min(shape.group_in());
    let blocks = Blocks::new(
        shape.output,
        Copies::per_pixel(shape) * task_channels / shape.group_in(),
    );
    let count = shape.batch.div_ceil(blocks.images);
    for group in 0..shape.op.groups {
        let slots = shape.slots(dy.kept, group);
        if slots.is_empty() || count == 0 {
            continue;
        }
        let row = slots.len().next_multiple_of(CHUNK);
        let grad = transposed(isa, dy.data, channels, p, slots.clone(), shape.batch);
        let parts = (MAX_SUMS / (f * row)).clamp(1, MAX_PARTS).min(count);
        let mut sums = Workspace::take(parts * f * row);
        let tasks = sums
            .par_chunks_mut(f * row)
            .enumerate()
            .flat_map(|(part, sums)| {
                let rows = sums.par_chunks_mut(task_channels * taps * row).enumerate();
                rows.map(move |(task, sums)| (part, task, sums))
            });
        tasks.for_each(|(part, task, sums)| {
            let first = group * shape.group_in() + task * task_channels;
            let own = first..first + sums.len() / (taps * row);
            let mut accumulate = false;
            for block in part * count / parts..(part + 1) * count / parts {
                let images = block * blocks.images..((block + 1) * blocks.images).min(shape.batch);
                for rows in blocks.parts() {
                    let copies = Copies::new(shape, x, images.clone(), own.clone(), rows.clone());
                    let len = rows.len() * shape.output[1];
                    // With several images a block has all of their rows.
                    let at = images.start * p + rows.start * shape.output[1];
                    let segments: Vec<usize> =
                        (0..images.len()).map(|n| n * copies.image).collect();
                    Segmented {
                        isa,
                        a: &copies.data,
                        a_rows: &copies.rows(own.len()),
                        a_segments: &segments,
                        len,
                        b: &grad[at * row..],
                        c: sums,
                        cols: row,
                        accumulate,
                    }
                    .multiply();
                    accumulate = true;
                }
            }
        });
        let sums = &sums;
        let out = Shared::new(dw);
        (0..slots.len().div_ceil(CHUNK))
            .into_par_iter()
            .for_each(|block| {
                let first = block * CHUNK;
                let count = CHUNK.min(slots.len() - first);
                for i in 0..f {
                    let mut total = [0.0; CHUNK];
                    for part in 0..parts {
                        let sum = &sums[(part * f + i) * row + first..][..CHUNK];
                        for (total, &sum) in total.iter_mut().zip(sum) {
                            *total += sum;
                        }
                    }
                    for (lane, &total) in total.iter().enumerate().take(count) {
                        let slot = slots.start + first + lane;
                        let k = dy.kept.map_or(slot, |kept| kept[slot]);
                        // SAFETY: kept channels are unique and below C_out (the kernel's caller
                        // checks them), so each task has rows of its own, inside dW.
                        unsafe { *out.ptr().add(k * f + i) += total };
                    }
                }
            });
    }
}
