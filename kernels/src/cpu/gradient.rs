//! What is done to gradients before a step: their norm, and clipping.

use rayon::prelude::*;

use crate::concrete::concrete;
use crate::cpu::element::Element;
use crate::error::{Error, Result};

/// Elements a task.
const BLOCK: usize = 16 * 1024;

concrete! {
    /// The sum of squares of a gradient of any length. The blocks are the same for any number of threads, and
    /// so is the sum.
    pub fn sum_of_squares<E: Element>(g: &[E]) -> f64 {
        match g.len() <= BLOCK {
            true => block_sum_of_squares(g),
            false => {
                let sums: Vec<f64> = g.par_chunks(BLOCK).map(block_sum_of_squares).collect();
                sums.into_iter().sum()
            }
        }
    }
}

/// The sum of squares of a block, in f64, in which no square of an f32 overflows.
pub fn block_sum_of_squares<E: Element>(g: &[E]) -> f64 {
    let mut sums = [0.0; 8];
    let square = |x: &E| x.to_f64().map_or(f64::NAN, |x| x * x);
    let chunks = g.chunks_exact(sums.len());
    let rest: f64 = chunks.remainder().iter().map(square).sum();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += square(x);
        }
    }
    sums.iter().sum::<f64>() + rest
}

concrete! {
    /// g = factor g
    ///
    /// # Errors
    /// [`Error::Parameter`] for a factor that is no number of the gradient's type.
    pub fn scale<E: Element>(factor: f64, g: &mut [E]) -> Result<()> {
        let factor = E::from_f64(factor).ok_or_else(|| out_of_range("factor", factor))?;
        in_blocks(g, |g| g.iter_mut().for_each(|g| *g *= factor));
        Ok(())
    }

    /// g = g, or the nearer of -limit and limit if it lies outside. NaN stays NaN.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a limit that is no number of the gradient's type.
    pub fn clamp<E: Element>(limit: f64, g: &mut [E]) -> Result<()> {
        let limit = E::from_f64(limit).ok_or_else(|| out_of_range("limit", limit))?;
        let inside = |g: E| match g {
            g if g > limit => limit,
            g if g < -limit => -limit,
            g => g,
        };
        in_blocks(g, |g| g.iter_mut().for_each(|g| *g = inside(*g)));
        Ok(())
    }
}

fn in_blocks<E: Element>(g: &mut [E], f: impl Fn(&mut [E]) + Send + Sync) {
    match g.len() <= BLOCK {
        true => f(g),
        false => g.par_chunks_mut(BLOCK).for_each(f),
    }
}

fn out_of_range(name: &'static str, value: f64) -> Error {
    Error::parameter(name, value, "a number of the parameters' type")
}
