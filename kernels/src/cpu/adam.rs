//! Adam on the CPU: one pass over memory that reads g, m, v, w and writes m, v, w (and g). And the
//! moving average of the weights.

use rayon::prelude::*;

use super::gradient::block_sum_of_squares;
use crate::args::adam::AdamStep;
use crate::concrete::concrete;
use crate::cpu::element::Element;
use crate::error::{Error, Result};

/// Elements a task. Four arrays of this many f32 fit into the L2 cache.
const BLOCK: usize = 16 * 1024;

const NO_DECAY: u8 = 0;
const L2_DECAY: u8 = 1;
const DECOUPLED_DECAY: u8 = 2;

/// The step's constants in the parameters' precision, each computed in f64.
#[derive(Clone, Copy)]
struct Constants<E> {
    one_minus_beta1: E,
    beta2: E,
    one_minus_beta2: E,
    /// lr / (1 - beta1^t)
    step_size: E,
    /// 1 / sqrt(1 - beta2^t)
    inv_sqrt_correction2: E,
    eps: E,
    grad_scale: E,
    /// The decay itself (L2), or 1 - lr decay (decoupled).
    decay: E,
}

/// w, m, v of one block after the step, for the kind of decay `DECAY`; if `LAZY`, where g is not 0.
fn update_block<E: Element, const DECAY: u8, const ZERO_GRAD: bool, const LAZY: bool>(
    c: Constants<E>,
    w: &mut [E],
    m: &mut [E],
    v: &mut [E],
    g: &mut [E],
) {
    for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
        if LAZY && *g == E::zero() {
            continue;
        }
        let mut grad = c.grad_scale * *g;
        if DECAY == L2_DECAY {
            grad += c.decay * *w;
        }
        if DECAY == DECOUPLED_DECAY {
            *w *= c.decay;
        }
        *m += c.one_minus_beta1 * (grad - *m);
        *v = *v * c.beta2 + c.one_minus_beta2 * (grad * grad);
        *w -= c.step_size * *m / (v.sqrt() * c.inv_sqrt_correction2 + c.eps);
        if ZERO_GRAD {
            *g = E::zero();
        }
    }
}

type Update<E> = fn(Constants<E>, &mut [E], &mut [E], &mut [E], &mut [E]);

/// The loop of this kind of step.
fn loop_of<E: Element, const LAZY: bool>(step: &AdamStep) -> Update<E> {
    match (step.weight_decay != 0.0, step.decoupled, step.zero_grad) {
        (false, _, false) => update_block::<E, NO_DECAY, false, LAZY>,
        (false, _, true) => update_block::<E, NO_DECAY, true, LAZY>,
        (true, false, false) => update_block::<E, L2_DECAY, false, LAZY>,
        (true, false, true) => update_block::<E, L2_DECAY, true, LAZY>,
        (true, true, false) => update_block::<E, DECOUPLED_DECAY, false, LAZY>,
        (true, true, true) => update_block::<E, DECOUPLED_DECAY, true, LAZY>,
    }
}

concrete! {
    /// Updates the weights `w`, their moments `m` and `v`, and may leave zeros in their gradient `g`, of
    /// whose elements it returns the sum of squares. The blocks are the same for any number of threads, and
    /// so are the results.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a hyperparameter that is no number of the weights' type.
    pub fn update<E: Element>(
        step: &AdamStep,
        w: &mut [E],
        m: &mut [E],
        v: &mut [E],
        g: &mut [E],
    ) -> Result<f64> {
        let [correction1, correction2] = step.bias_corrections();
        let cast = |name, value: f64| {
            E::from_f64(value)
                .ok_or_else(|| Error::parameter(name, value, "a number of the parameters' type"))
        };
        let c = Constants {
            one_minus_beta1: cast("1 - betas[0]", 1.0 - step.betas[0])?,
            beta2: cast("betas[1]", step.betas[1])?,
            one_minus_beta2: cast("1 - betas[1]", 1.0 - step.betas[1])?,
            step_size: cast("lr", step.lr / correction1)?,
            inv_sqrt_correction2: cast("betas[1]", correction2.sqrt().recip())?,
            eps: cast("eps", step.eps)?,
            grad_scale: cast("grad_scale", step.grad_scale)?,
            decay: cast(
                "weight_decay",
                if step.decoupled {
                    1.0 - step.lr * step.weight_decay
                } else {
                    step.weight_decay
                },
            )?,
        };
        let block = match step.lazy {
            true => loop_of::<E, true>(step),
            false => loop_of::<E, false>(step),
        };
        let update = |w: &mut [E], m: &mut [E], v: &mut [E], g: &mut [E]| {
            // The block's gradient is in the cache for the update then.
            let squares = block_sum_of_squares(g);
            block(c, w, m, v, g);
            squares
        };
        if w.len() <= BLOCK {
            return Ok(update(w, m, v, g));
        }
        let squares: Vec<f64> = w
            .par_chunks_mut(BLOCK)
            .zip(m.par_chunks_mut(BLOCK))
            .zip(v.par_chunks_mut(BLOCK))
            .zip(g.par_chunks_mut(BLOCK))
            .map(|(((w, m), v), g)| update(w, m, v, g))
            .collect();
        Ok(squares.into_iter().sum())
    }

    /// average += rate (w - average)
    ///
    /// # Errors
    /// As [`update`].
    pub fn moving_average<E: Element>(rate: f64, average: &mut [E], w: &[E]) -> Result<()> {
        let rate = E::from_f64(rate)
            .ok_or_else(|| Error::parameter("rate", rate, "a number of the parameters' type"))?;
        let blocks = average.par_chunks_mut(BLOCK).zip(w.par_chunks(BLOCK));
        blocks.for_each(|(average, w)| {
            for (average, &w) in average.iter_mut().zip(w) {
                *average += rate * (w - *average);
            }
        });
        Ok(())
    }
}
