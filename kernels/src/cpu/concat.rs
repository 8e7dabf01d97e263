//! Concatenation on the CPU: an image a task.

use rayon::prelude::*;

use crate::args::concat::Part;
use crate::args::Fill;
use crate::concrete::concrete;
use crate::cpu::add::write;
use crate::cpu::element::Element;

concrete! {
    /// Writes the images x to their part of those of y.
    pub fn forward<E: Element>(part: &Part, x: &[E], y: &mut [E]) {
        y.par_chunks_mut(part.whole.max(1))
            .zip(x.par_chunks(part.range.len().max(1)))
            .for_each(|(y, x)| y[part.range.clone()].copy_from_slice(x));
    }

    /// dx (+)= its part of dy
    pub fn backward<E: Element>(part: &Part, dy: &[E], dx: &mut [E], fill: Fill) {
        dx.par_chunks_mut(part.range.len().max(1))
            .zip(dy.par_chunks(part.whole.max(1)))
            .for_each(|(dx, dy)| write(&dy[part.range.clone()], dx, fill));
    }
}
