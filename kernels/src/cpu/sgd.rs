//! SGD on the CPU: one pass over memory that reads g, w and the momentum buffer and writes w and the
//! buffer (and g).

use rayon::prelude::*;

use super::gradient::block_sum_of_squares;
use crate::args::sgd::SgdStep;
use crate::concrete::concrete;
use crate::cpu::element::Element;
use crate::error::{Error, Result};

/// Elements a task.
const BLOCK: usize = 16 * 1024;

/// The step's constants in the parameters' precision.
#[derive(Clone, Copy)]
struct Constants<E> {
    lr: E,
    momentum: E,
    /// Of the buffer and of the gradient in the new buffer.
    buffer: [E; 2],
    decay: E,
    grad_scale: E,
    nesterov: bool,
    zero_grad: bool,
}

impl<E: Element> Constants<E> {
    /// The gradient with its decay; what is left of it in memory is zero if it should be.
    fn take_gradient(&self, w: E, g: &mut E) -> E {
        let grad = self.grad_scale * *g + self.decay * w;
        if self.zero_grad {
            *g = E::zero();
        }
        grad
    }

    fn plain(self, w: &mut [E], g: &mut [E]) {
        for (w, g) in w.iter_mut().zip(g) {
            let grad = self.take_gradient(*w, g);
            *w -= self.lr * grad;
        }
    }

    fn with_momentum<const NESTEROV: bool>(self, w: &mut [E], buffer: &mut [E], g: &mut [E]) {
        let [keep, add] = self.buffer;
        for ((w, buffer), g) in w.iter_mut().zip(buffer).zip(g) {
            let grad = self.take_gradient(*w, g);
            *buffer = keep * *buffer + add * grad;
            let direction = match NESTEROV {
                true => grad + self.momentum * *buffer,
                false => *buffer,
            };
            *w -= self.lr * direction;
        }
    }
}

concrete! {
    /// Updates the weights `w`, and the momentum buffer if there is one, and may leave zeros in their
    /// gradient `g`, of whose elements it returns the sum of squares. The blocks are the same for any number
    /// of threads, and so are the results.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a hyperparameter that is no number of the weights' type.
    pub fn update<E: Element>(
        step: &SgdStep,
        w: &mut [E],
        buffer: Option<&mut [E]>,
        g: &mut [E],
    ) -> Result<f64> {
        let cast = |name, value: f64| {
            E::from_f64(value)
                .ok_or_else(|| Error::parameter(name, value, "a number of the parameters' type"))
        };
        let [keep, add] = step.buffer_factors();
        let c = Constants {
            lr: cast("lr", step.lr)?,
            momentum: cast("momentum", step.momentum)?,
            buffer: [cast("momentum", keep)?, cast("dampening", add)?],
            decay: cast("weight_decay", step.weight_decay)?,
            grad_scale: cast("grad_scale", step.grad_scale)?,
            nesterov: step.nesterov,
            zero_grad: step.zero_grad,
        };
        let block = |w: &mut [E], buffer: Option<&mut [E]>, g: &mut [E]| {
            let squares = block_sum_of_squares(g);
            match buffer {
                None => c.plain(w, g),
                Some(buffer) if c.nesterov => c.with_momentum::<true>(w, buffer, g),
                Some(buffer) => c.with_momentum::<false>(w, buffer, g),
            }
            squares
        };
        if w.len() <= BLOCK {
            return Ok(block(w, buffer, g));
        }
        let blocks = w.par_chunks_mut(BLOCK).zip(g.par_chunks_mut(BLOCK));
        let squares: Vec<f64> = match buffer {
            None => blocks.map(|(w, g)| block(w, None, g)).collect(),
            Some(buffer) => blocks
                .zip(buffer.par_chunks_mut(BLOCK))
                .map(|((w, g), buffer)| block(w, Some(buffer), g))
                .collect(),
        };
        Ok(squares.into_iter().sum())
    }
}
