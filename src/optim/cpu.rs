//! Adam on the CPU: one pass over memory that reads g, m, v, w and writes m, v, w (and g). And the
//! moving average of the weights.

use dfdx::dtypes::Dtype;
use dfdx::shapes::Shape;
use dfdx::tensor::{Cpu, Storage, Tensor};
use num_traits::Float;
use rayon::prelude::*;

use super::kernel::{AdamKernel, AdamStep};
use crate::bridge::storage::{as_mut_slice, as_slice};
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
    /// The decay itself (L2), or 1 - lr decay (decoupled).
    decay: E,
}

/// w, m, v of one block after the step, for the kind of decay `DECAY`.
fn update_block<E: Float, const DECAY: u8, const ZERO_GRAD: bool>(
    c: Constants<E>,
    w: &mut [E],
    m: &mut [E],
    v: &mut [E],
    g: &mut [E],
) {
    for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
        let mut grad = *g;
        if DECAY == L2_DECAY {
            grad = grad + c.decay * *w;
        }
        if DECAY == DECOUPLED_DECAY {
            *w = *w * c.decay;
        }
        *m = *m + c.one_minus_beta1 * (grad - *m);
        *v = *v * c.beta2 + c.one_minus_beta2 * (grad * grad);
        *w = *w - c.step_size * *m / (v.sqrt() * c.inv_sqrt_correction2 + c.eps);
        if ZERO_GRAD {
            *g = E::zero();
        }
    }
}

/// [`update_block`] over all blocks. Elements do not depend on each other, so the result does not
/// depend on which thread does which block.
fn update<E: Float + Send + Sync>(
    step: &AdamStep,
    w: &mut [E],
    m: &mut [E],
    v: &mut [E],
    g: &mut [E],
) -> Result<()> {
    let cfg = &step.cfg;
    let [correction1, correction2] = step.bias_corrections();
    let cast = |name, value: f64| {
        E::from(value)
            .ok_or_else(|| Error::parameter(name, value, "a number of the parameters' type"))
    };
    let c = Constants {
        one_minus_beta1: cast("1 - betas[0]", 1.0 - cfg.betas[0])?,
        beta2: cast("betas[1]", cfg.betas[1])?,
        one_minus_beta2: cast("1 - betas[1]", 1.0 - cfg.betas[1])?,
        step_size: cast("lr", cfg.lr / correction1)?,
        inv_sqrt_correction2: cast("betas[1]", correction2.sqrt().recip())?,
        eps: cast("eps", cfg.eps)?,
        decay: cast(
            "weight_decay",
            if cfg.decoupled {
                1.0 - cfg.lr * cfg.weight_decay
            } else {
                cfg.weight_decay
            },
        )?,
    };
    let block = match (cfg.weight_decay != 0.0, cfg.decoupled, step.zero_grad) {
        (false, _, false) => update_block::<E, NO_DECAY, false>,
        (false, _, true) => update_block::<E, NO_DECAY, true>,
        (true, false, false) => update_block::<E, L2_DECAY, false>,
        (true, false, true) => update_block::<E, L2_DECAY, true>,
        (true, true, false) => update_block::<E, DECOUPLED_DECAY, false>,
        (true, true, true) => update_block::<E, DECOUPLED_DECAY, true>,
    };
    if w.len() <= BLOCK {
        block(c, w, m, v, g);
    } else {
        w.par_chunks_mut(BLOCK)
            .zip(m.par_chunks_mut(BLOCK))
            .zip(v.par_chunks_mut(BLOCK))
            .zip(g.par_chunks_mut(BLOCK))
            .for_each(|(((w, m), v), g)| block(c, w, m, v, g));
    }
    Ok(())
}

impl<E: Dtype + Float> AdamKernel<E> for Cpu {
    fn adam_update<S: Shape>(
        &self,
        step: &AdamStep,
        param: &mut Tensor<S, E, Self>,
        exp_avg: &mut Self::Vec,
        exp_avg_sq: &mut Self::Vec,
        grad: &mut Self::Vec,
    ) -> Result<()> {
        let w = as_mut_slice("adam", param)?;
        for (what, found) in [
            ("elements of the gradient", grad.len()),
            ("elements of the first moment", exp_avg.len()),
            ("elements of the second moment", exp_avg_sq.len()),
        ] {
            if found != w.len() {
                return Err(Error::shape("adam", what, w.len(), found));
            }
        }
        update(step, w, exp_avg, exp_avg_sq, grad)
    }

    fn ema_update<S: Shape>(
        &self,
        rate: f64,
        average: &mut Tensor<S, E, Self>,
        param: &Tensor<S, E, Self>,
    ) -> Result<()> {
        let w = as_slice("ema", param)?;
        let average = as_mut_slice("ema", average)?;
        if w.len() != average.len() {
            return Err(Error::shape("ema", "elements", average.len(), w.len()));
        }
        let rate = E::from(rate)
            .ok_or_else(|| Error::parameter("rate", rate, "a number of the parameters' type"))?;
        let blocks = average.par_chunks_mut(BLOCK).zip(w.par_chunks(BLOCK));
        blocks.for_each(|(average, w)| {
            for (average, &w) in average.iter_mut().zip(w) {
                *average = *average + rate * (w - *average);
            }
        });
        Ok(())
    }

    fn buffer_to_host(&self, buffer: &Self::Vec) -> Result<Vec<E>> {
        Ok(buffer.to_vec())
    }

    fn buffer_from_host(&self, host: &[E]) -> Result<Self::Vec> {
        let mut buffer = self.try_alloc_len(host.len()).map_err(Error::device)?;
        buffer.copy_from_slice(host);
        Ok(buffer)
    }
}
