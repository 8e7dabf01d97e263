//! Concatenation on the CPU: an image a task.

use dfdx::shapes::Shape;
use dfdx::tensor::{Cpu, Tensor};
use rayon::prelude::*;

use super::{ConcatKernel, Part};
use crate::bridge::storage::{as_mut_slice, as_slice};
use crate::element::Element;
use crate::error::Result;
use crate::ops::add::write;
use crate::ops::Fill;

impl<E: Element> ConcatKernel<E> for Cpu {
    fn concat_forward<X: Shape, Y: Shape>(
        part: &Part,
        x: &Tensor<X, E, Self>,
        y: &mut Tensor<Y, E, Self>,
    ) -> Result<()> {
        as_mut_slice("concat", y)?
            .par_chunks_mut(part.whole.max(1))
            .zip(as_slice("concat", x)?.par_chunks(part.range.len().max(1)))
            .for_each(|(y, x)| y[part.range.clone()].copy_from_slice(x));
        Ok(())
    }

    fn concat_backward(part: &Part, dy: &Self::Vec, dx: &mut Self::Vec, fill: Fill) -> Result<()> {
        let (dx, dy): (&mut [E], &[E]) = (dx, dy);
        dx.par_chunks_mut(part.range.len().max(1))
            .zip(dy.par_chunks(part.whole.max(1)))
            .for_each(|(dx, dy)| write(&dy[part.range.clone()], dx, fill));
        Ok(())
    }
}
