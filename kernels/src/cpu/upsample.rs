//! Upsampling on the CPU: some rows a task.

use rayon::prelude::*;

use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::blocks::ELEMENTS;
use crate::cpu::element::Element;
use crate::cpu::simd::multiversion;

multiversion! {
    /// Rows of `width` pixels, each to two rows of twice the width.
    fn block_forward<E>(width: usize, x: &[E], y: &mut [E]) {
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(4 * width)) {
            let (row, copy) = y.split_at_mut(2 * width);
            for (y, &x) in row.as_chunks_mut::<2>().0.iter_mut().zip(x) {
                *y = [x, x];
            }
            copy.copy_from_slice(row);
        }
    }
}

multiversion! {
    fn block_backward<E>(width: usize, dy: &[E], dx: &mut [E], fill: Fill) {
        for (dy, dx) in dy.chunks_exact(4 * width).zip(dx.chunks_exact_mut(width)) {
            let (upper, lower) = dy.split_at(2 * width);
            let rows = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
            match fill {
                Fill::Add => {
                    for (dx, (u, l)) in dx.iter_mut().zip(rows) {
                        *dx += (u[0] + u[1]) + (l[0] + l[1]);
                    }
                }
                Fill::Overwrite => {
                    for (dx, (u, l)) in dx.iter_mut().zip(rows) {
                        *dx = (u[0] + u[1]) + (l[0] + l[1]);
                    }
                }
            }
        }
    }
}

/// The smaller image's elements that a task takes: whole rows.
fn block(width: usize) -> usize {
    (ELEMENTS / (4 * width)).max(1) * width
}

concrete! {
    /// y_{2i+a, 2j+b} = x_{ij}, for images of `width` pixels a row
    pub fn forward<E: Element>(width: usize, x: &[E], y: &mut [E]) {
        let width = width.max(1);
        x.par_chunks(block(width))
            .zip(y.par_chunks_mut(4 * block(width)))
            .for_each(|(x, y)| block_forward(width, x, y));
    }

    /// dx (+)= the sum of every square of dy
    pub fn backward<E: Element>(width: usize, dy: &[E], dx: &mut [E], fill: Fill) {
        let width = width.max(1);
        dx.par_chunks_mut(block(width))
            .zip(dy.par_chunks(4 * block(width)))
            .for_each(|(dx, dy)| block_backward(width, dy, dx, fill));
    }
}
