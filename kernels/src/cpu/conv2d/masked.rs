//! Masks over positions or elements: dY as a matrix (rows, columns) whose columns are dropped.
//!
//! For the sensitivity analysis, not for speed: the products with what is left are dense.

use rayon::prelude::*;

use crate::concrete::concrete;
use crate::cpu::element::Element;
use crate::cpu::simd::from_f64;

/// Columns that a task sums.
const BLOCK: usize = 64;

concrete! {
    /// Mean |dY| of each column, its rows added in their order.
    pub fn importance<E: Element>(dy: &[E], columns: usize) -> Vec<f64> {
        let rows = (dy.len() / columns.max(1)).max(1) as f64;
        let mut sums = vec![0.0; columns];
        sums.par_chunks_mut(BLOCK)
            .enumerate()
            .for_each(|(block, sums)| {
                for row in dy.chunks_exact(columns) {
                    for (sum, g) in sums.iter_mut().zip(&row[block * BLOCK..]) {
                        *sum += g.abs().to_f64().unwrap_or(f64::NAN);
                    }
                }
                sums.iter_mut().for_each(|sum| *sum /= rows);
            });
        sums
    }

    /// Copies the kept columns of `dy` and zeroes the others.
    pub fn mask<E: Element>(dy: &[E], columns: usize, kept: &[usize], masked: &mut [E]) {
        masked
            .par_chunks_mut(columns.max(1))
            .zip(dy.par_chunks(columns.max(1)))
            .for_each(|(to, from)| {
                to.fill(E::zero());
                for &column in kept {
                    to[column] = from[column];
                }
            });
    }

    /// Zeros in the channels of `dy` (B, channels, pixels) that are not in `kept`, which is ascending.
    pub fn zero_dropped<E: Element>(dy: &mut [E], channels: usize, pixels: usize, kept: &[usize]) {
        dy.par_chunks_mut((channels * pixels).max(1))
            .for_each(|image| {
                let planes = image.chunks_mut(pixels.max(1)).enumerate();
                for (_, plane) in planes.filter(|(c, _)| kept.binary_search(c).is_err()) {
                    plane.fill(E::zero());
                }
            });
    }

    /// Multiplies every element by `factor`.
    pub fn scale<E: Element>(dy: &mut [E], factor: f64) {
        let factor = from_f64::<E>(factor);
        dy.par_chunks_mut(crate::cpu::blocks::ELEMENTS)
            .for_each(|dy| dy.iter_mut().for_each(|g| *g *= factor));
    }
}
