//! Upsampling on the CPU: some rows a task.

use dfdx::shapes::Shape;
use dfdx::tensor::{Cpu, Tensor};
use rayon::prelude::*;

use super::UpsampleKernel;
use crate::bridge::storage::{as_mut_slice, as_slice};
use crate::element::Element;
use crate::error::Result;
use crate::ops::blocks::ELEMENTS;
use crate::ops::Fill;
use crate::simd::multiversion;

multiversion! {
    /// Rows of `width` pixels, each to two rows of twice the width.
    fn forward<E>(width: usize, x: &[E], y: &mut [E]) {
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
    fn backward<E>(width: usize, dy: &[E], dx: &mut [E], fill: Fill) {
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

impl<E: Element> UpsampleKernel<E> for Cpu {
    fn upsample_nearest2d_forward<X: Shape, Y: Shape>(
        [_, width]: [usize; 2],
        x: &Tensor<X, E, Self>,
        y: &mut Tensor<Y, E, Self>,
    ) -> Result<()> {
        let x = as_slice("upsample_nearest2d", x)?;
        let y = as_mut_slice("upsample_nearest2d", y)?;
        let width = width.max(1);
        x.par_chunks(block(width))
            .zip(y.par_chunks_mut(4 * block(width)))
            .for_each(|(x, y)| forward(width, x, y));
        Ok(())
    }

    fn upsample_nearest2d_backward(
        [_, width]: [usize; 2],
        dy: &Self::Vec,
        dx: &mut Self::Vec,
        fill: Fill,
    ) -> Result<()> {
        let (dx, dy): (&mut [E], &[E]) = (dx, dy);
        let width = width.max(1);
        dx.par_chunks_mut(block(width))
            .zip(dy.par_chunks(4 * block(width)))
            .for_each(|(dx, dy)| backward(width, dy, dx, fill));
        Ok(())
    }
}
