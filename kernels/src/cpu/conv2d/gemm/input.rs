//! The gradient of the input, by phases: with stride s, pixels i * s + phase of the input form
//! s * s images, each of which meets taps of its own. A phase (C_in / groups, P) = Wt (C_in /
//! groups, kept * taps) * windows of dY.

use rayon::prelude::*;

use super::blocks::CHUNK;
use super::blocks::{depths, Blocks, PIXELS};
use super::interleave::Interleave;
use super::kernel::{Columns, Output};
use super::packed::Packed;
use super::panels::Panels;
use super::windows::Windows;
use super::write::{chunks, write, Parts};
use crate::args::conv2d::{Conv2DOp, Conv2DShape, OutputGrad};
use crate::args::Fill;
use crate::cpu::simd::Isa;
use crate::cpu::workspace::Workspace;

/// The taps (row-major) that reach each phase, row by row.
fn phases(op: &Conv2DOp) -> Vec<Vec<usize>> {
    let phase = |k: usize| {
        let at = (k * op.dilation) as isize - op.padding as isize;
        at.rem_euclid(op.stride as isize) as usize
    };
    let mut phases = vec![Vec::new(); op.stride * op.stride];
    for tap in 0..op.kernel * op.kernel {
        let (ky, kx) = (tap / op.kernel, tap % op.kernel);
        phases[phase(ky) * op.stride + phase(kx)].push(tap);
    }
    phases
}

/// dX (+)= conv-transpose(dY, w)
pub fn backward_input(
    isa: Isa,
    shape: &Conv2DShape,
    w: &[f32],
    dy: OutputGrad<'_, &[f32]>,
    dx: &mut [f32],
    fill: Fill,
) {
    let (stride, f, c_in) = (shape.op().stride, shape.filter_len(), shape.group_in());
    let (pixels, taps) = (shape.input_pixels(), shape.op().kernel * shape.op().kernel);
    // The largest phase's size. The others' may be one less: their last row or column is dropped.
    let size = shape.input().map(|n| n.div_ceil(stride));
    let windows = Windows::of_gradient(shape, dy.data, dy.channels(shape.c_out()), size[1]);
    let phases = phases(&shape.op());
    let some: Vec<bool> = phases.iter().map(|taps| !taps.is_empty()).collect();
    let most_taps = phases.iter().map(Vec::len).max().unwrap_or(1);
    let zeros = vec![0.0; size[1]];
    // One factor a group and phase: (C_in / groups, slots * taps).
    let filters: Vec<Vec<Packed>> = (0..shape.op().groups)
        .map(|g| {
            let slots = shape.slots(dy.kept, g);
            let of = |phase: &Vec<usize>| {
                let starts: Vec<usize> = slots
                    .clone()
                    .map(|slot| dy.kept.map_or(slot, |kept| kept[slot]) * f)
                    .flat_map(|filter| phase.iter().map(move |tap| filter + tap))
                    .collect();
                Packed::new(isa, c_in, taps, &starts, w)
            };
            phases.iter().map(of).collect()
        })
        .collect();
    // The sums of all phases are held together.
    let blocks = Blocks::new(size, (2 * PIXELS / phases.len()).min(PIXELS));
    let parts = windows.parts(blocks.parts(), &phases);
    dx.par_chunks_mut((blocks.images * shape.c_in() * pixels).max(1))
        .enumerate()
        .for_each(|(block, dx)| {
            let images = blocks.images(block, shape.batch());
            let count = images.len();
            for (part, (g, filters)) in parts
                .iter()
                .flat_map(|part| filters.iter().enumerate().map(move |f| (part, f)))
            {
                let rows = &part.rows;
                let (slots, group) = (shape.slots(dy.kept, g), g * c_in * pixels);
                let block_pixels = rows.len() * size[1];
                // Writes each phase to its output.
                let products = |outputs: &mut [Output<'_>]| {
                    let chunks = count * block_pixels.div_ceil(CHUNK);
                    for own in depths(slots.len(), most_taps) {
                        let mut panels: Vec<_> = phases
                            .iter()
                            .map(|taps| Panels::new(chunks, own.len() * taps.len()))
                            .collect();
                        let there = slots.start + own.start..slots.start + own.end;
                        windows.fill(isa, &mut panels, images.clone(), there, part);
                        let factors = filters.iter().zip(&panels).zip(&phases);
                        for (to, ((a, b), taps)) in outputs.iter_mut().zip(factors) {
                            let (from, end) = (own.start * taps.len(), own.end * taps.len());
                            if from < end {
                                to.add_product(isa, Columns { a, from, to: end }, b.rows_from(0));
                            }
                        }
                    }
                };
                if slots.is_empty() {
                    if fill == Fill::Overwrite && rows.start == 0 {
                        for image in dx.chunks_exact_mut(shape.c_in() * pixels) {
                            image[group..group + c_in * pixels].fill(0.0);
                        }
                    }
                } else if stride == 1 {
                    let to = Parts {
                        first: group + rows.start * size[1],
                        images: count,
                        image: shape.c_in() * pixels,
                        row: pixels,
                        pixels: block_pixels,
                    };
                    write(dx, to, c_in, fill, |dx| products(&mut [dx]));
                } else {
                    // All phases, (C_in / groups, images, pixels) each, and then into the image.
                    let padded = block_pixels.next_multiple_of(CHUNK);
                    let chunks = chunks(count, padded, block_pixels);
                    let phase_len = c_in * count * padded;
                    let mut sums = Workspace::take(phases.len() * phase_len);
                    let mut outputs: Vec<_> = sums
                        .chunks_exact_mut(phase_len)
                        .map(|data| Output {
                            data,
                            row: count * padded,
                            chunks: &chunks,
                            accumulate: false,
                        })
                        .collect();
                    products(&mut outputs);
                    let interleave = Interleave {
                        size: shape.input(),
                        stride,
                        some: &some,
                        zeros: &zeros,
                        rows: rows.clone(),
                        fill,
                    };
                    for n in 0..count {
                        for c in 0..c_in {
                            let plane = n * shape.c_in() * pixels + group + c * pixels;
                            let sums = &sums[(c * count + n) * padded..];
                            interleave.plane(sums, phase_len, &mut dx[plane..plane + pixels]);
                        }
                    }
                }
            }
        });
}
