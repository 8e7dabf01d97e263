//! The gradient of the weight, a product over pixels: dWt (F, kept) = windows (F, P) * dYt (P,
//! kept). One side's channels are transposed to the inside; the other's are read as they lie, or,
//! where taps shift them, from copies. Of a pointwise convolution it is the side with the fewer
//! channels that is transposed: dW (kept, F) = dY (kept, P) * xt (P, F) if that is the input.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::CHUNK;
use super::blocks::{Blocks, PIXELS};
use super::kernel::Output;
use super::panels::Panels;
use super::transposed::transposed;
use super::windows::Windows;
use crate::args::conv2d::{Conv2DShape, OutputGrad};
use crate::cpu::simd::Isa;
use crate::cpu::workspace::{Shared, Workspace};

/// Partial sums of dW, at most, and the elements of all of them, if there are several.
const MAX_PARTS: usize = 8;
const MAX_SUMS: usize = 1 << 20;
/// Rows of the product that a task computes, about.
const TASK_ROWS: usize = 64;

/// dW += correlation(x, dY); rows of dropped channels stay as they are
pub fn backward_weight(
    isa: Isa,
    shape: &Conv2DShape,
    x: &[f32],
    dy: OutputGrad<'_, &[f32]>,
    dw: &mut [f32],
) {
    if shape.batch() == 0 {
        return;
    }
    assert_eq!(dw.len(), shape.c_out() * shape.filter_len());
    assert!(dy.kept.is_none_or(|kept| kept.all() == shape.c_out()));
    let x = Windows::of_input(shape, x);
    // By rows where the input is the side that is transposed, and else transposed itself.
    let gradient = Windows::of_gradient(
        shape,
        dy.data,
        dy.channels(shape.c_out()),
        shape.output()[1],
    );
    let (f, c_in) = (shape.filter_len(), shape.group_in());
    for group in 0..shape.op().groups {
        let own = group * c_in..(group + 1) * c_in;
        let slots = shape.slots(dy.kept, group);
        if slots.is_empty() {
            continue;
        }
        let filter = |slot: usize| {
            let slot = slots.start + slot;
            dy.kept.map_or(slot, |kept| kept[slot]) * f
        };
        let out = Shared::new(dw);
        let add = |at: usize, sums: &[f32]| {
            // SAFETY: filters of kept channels are inside dW (just checked), each once, and runs do not overlap,
            // so that each element of dW is added to by one task.
            let dw = unsafe { std::slice::from_raw_parts_mut(out.ptr().add(at), sums.len()) };
            dw.iter_mut().zip(sums).for_each(|(dw, sum)| *dw += sum);
        };
        if shape.is_pointwise() && c_in < slots.len() {
            let right = transposed(isa, &x, own, shape.batch());
            let sums = Sums::new(isa, shape, &gradient, slots.clone(), &right, c_in);
            sums.reduce_parts(true, |row, column, sums| add(filter(row) + column, sums));
        } else {
            let right = transposed(isa, &gradient, slots.clone(), shape.batch());
            let sums = Sums::new(isa, shape, &x, own, &right, slots.len());
            sums.reduce_parts(false, |row, column, sums| add(filter(column) + row, sums));
        }
    }
}

/// Sums over parts of the batch, each (rows, columns), columns padded to whole chunks.
struct Sums {
    data: Workspace,
    parts: usize,
    rows: usize,
    columns: usize,
}

impl Sums {
    /// The products of `left`'s windows of channels `own` with `right`, which has `columns`.
    fn new(
        isa: Isa,
        shape: &Conv2DShape,
        left: &Windows<'_>,
        own: Range<usize>,
        right: &Panels,
        columns: usize,
    ) -> Self {
        let taps = left.taps();
        let (rows, row) = (own.len() * taps, columns.next_multiple_of(CHUNK));
        let blocks = Blocks::new(shape.output(), PIXELS);
        let rows_of = left.parts(blocks.parts(), &[(0..taps).collect()]);
        let count = shape.batch().div_ceil(blocks.images);
        let parts = (MAX_SUMS / (rows * row)).clamp(1, MAX_PARTS).min(count);
        let chunks: Vec<usize> = (0..row).step_by(CHUNK).collect();
        let task_channels = TASK_ROWS.div_ceil(taps);
        let mut data = Workspace::take(parts * rows * row);
        let tasks = data
            .par_chunks_mut(rows * row)
            .enumerate()
            .flat_map(|(part, sums)| {
                let tasks = sums.par_chunks_mut(task_channels * taps * row).enumerate();
                tasks.map(move |(task, sums)| (part, task, sums))
            });
        tasks.for_each(|(part, task, sums)| {
            let first = own.start + task * task_channels;
            let own = first..first + sums.len() / (taps * row);
            let mut sums = Output {
                data: sums,
                row,
                chunks: &chunks,
                accumulate: false,
            };
            for block in part * count / parts..(part + 1) * count / parts {
                let images = blocks.images(block, shape.batch());
                for rows in &rows_of {
                    let windows = left.rows(isa, images.clone(), own.clone(), rows);
                    // With several images a block has all of their rows.
                    let pixel =
                        images.start * shape.output_pixels() + rows.rows.start * shape.output()[1];
                    sums.add_product(isa, windows.left(), right.rows_from(pixel));
                }
            }
        });
        Self {
            data,
            parts,
            rows,
            columns,
        }
    }

    /// Calls `add(row, column, sums)` for runs of elements: of a row if `by_rows`, or else of a
    /// column, from that element on.
    fn reduce_parts(&self, by_rows: bool, add: impl Fn(usize, usize, &[f32]) + Sync) {
        let row = self.columns.next_multiple_of(CHUNK);
        let blocks = (self.rows.div_ceil(TASK_ROWS), row / CHUNK);
        (0..blocks.0 * blocks.1).into_par_iter().for_each(|block| {
            let (first, column) = (block / blocks.1 * TASK_ROWS, block % blocks.1 * CHUNK);
            let (rows, columns) = (
                TASK_ROWS.min(self.rows - first),
                CHUNK.min(self.columns - column),
            );
            let mut turned = [[0.0; TASK_ROWS]; CHUNK];
            for i in 0..rows {
                let mut total = [0.0; CHUNK];
                for part in 0..self.parts {
                    let at = (part * self.rows + first + i) * row + column;
                    for (total, &sum) in total.iter_mut().zip(&self.data[at..at + CHUNK]) {
                        *total += sum;
                    }
                }
                if by_rows {
                    add(first + i, column, &total[..columns]);
                } else {
                    for (turned, &total) in turned.iter_mut().zip(&total) {
                        turned[i] = total;
                    }
                }
            }
            if !by_rows {
                for (j, turned) in turned.iter().enumerate().take(columns) {
                    add(first, column + j, &turned[..rows]);
                }
            }
        });
    }
}
