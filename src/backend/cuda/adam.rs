//! Adam on CUDA: one pass over weights, moments and gradient, of many tensors by one launch.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::AdamKernel;
use crate::bridge::cuda::calls::{
    add_adam, forget_adam, launch, launch_adam, AdamCommon, AdamTensor, Arg, Grid, Slice, SliceMut,
    ADAM,
};
use crate::error::{Error, Result};
use crate::kernels::args::adam::AdamStep;

macro_rules! on_cuda {
    ($($E:ty),*) => {$(
        impl AdamKernel<$E> for Cuda {
            fn adam_update(
                step: &AdamStep,
                w: SliceMut<'_, $E>,
                m: SliceMut<'_, $E>,
                v: SliceMut<'_, $E>,
                g: SliceMut<'_, $E>,
            ) -> Result<Option<f64>> {
                update(step, w, m, v, g).map(|()| None)
            }

            fn adam_begin() {
                forget_adam();
            }

            fn adam_finish() -> Result<()> {
                launch_adam()
            }

            fn ema_update(
                rate: f64,
                average: SliceMut<'_, $E>,
                w: Slice<'_, $E>,
            ) -> Result<()> {
                moving_average(rate, average, w)
            }
        }
    )*};
}
on_cuda!(f32, f64);

/// Element types that `adam.cu` has kernels for.
trait AdamElement {
    const ADAM: &'static str;
    const EMA: &'static str;
}

impl AdamElement for f32 {
    const ADAM: &'static str = "adam_steps_f32";
    const EMA: &'static str = "ema_step_f32";
}

impl AdamElement for f64 {
    const ADAM: &'static str = "adam_steps_f64";
    const EMA: &'static str = "ema_step_f64";
}

/// Updates the weights `w`, and their moments `m` and `v`, with their gradient `g`.
fn update<E: AdamElement>(
    step: &AdamStep,
    w: SliceMut<E>,
    m: SliceMut<E>,
    v: SliceMut<E>,
    g: SliceMut<E>,
) -> Result<()> {
    let n = w.len();
    check_len("adam", "elements of the gradient", g.len(), n)?;
    check_len("adam", "elements of the first moment", m.len(), n)?;
    check_len("adam", "elements of the second moment", v.len(), n)?;
    let [correction1, correction2] = step.bias_corrections();
    let (decay_kind, decay) = match (step.weight_decay != 0.0, step.decoupled) {
        (false, _) => (0, 0.0),
        (true, false) => (1, step.weight_decay),
        (true, true) => (2, 1.0 - step.lr * step.weight_decay),
    };
    let common = AdamCommon {
        one_minus_beta1: 1.0 - step.betas[0],
        beta2: step.betas[1],
        one_minus_beta2: 1.0 - step.betas[1],
        eps: step.eps,
        grad_scale: step.grad_scale,
        zero_grad: step.zero_grad.into(),
        lazy: step.lazy.into(),
    };
    let tensor = AdamTensor {
        addresses: [&w, &m, &v, &g].map(|memory| memory.shared().address()),
        step_size: step.lr / correction1,
        inv_sqrt_correction2: correction2.sqrt().recip(),
        decay,
        decay_kind,
        len: len_of(n)?,
        ..AdamTensor::default()
    };
    add_adam(E::ADAM, w.device(), &common, tensor)
}

fn len_of(n: usize) -> Result<u32> {
    match i32::try_from(n) {
        Ok(_) => Ok(n as u32),
        Err(_) => Err(Error::parameter(
            "elements of a parameter",
            n,
            "less than 2^31",
        )),
    }
}

/// Moves averages towards their weights.
fn moving_average<E: AdamElement>(rate: f64, average: SliceMut<E>, w: Slice<E>) -> Result<()> {
    let n = average.len();
    check_len("ema", "elements", w.len(), n)?;
    let args = [(&average).into(), w.into(), n.into(), Arg::Double(rate)];
    launch(&ADAM, E::EMA, average.device(), Grid::elements(n), &args)
}
