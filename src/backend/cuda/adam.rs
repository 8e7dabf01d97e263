//! The optimizer on CUDA: one pass over weights, moments and gradient.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::AdamKernel;
use crate::bridge::cuda::calls::{launch, Arg, Grid, Slice, SliceMut, ADAM};
use crate::error::Result;
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
    const ADAM: &'static str = "adam_step_f32";
    const EMA: &'static str = "ema_step_f32";
}

impl AdamElement for f64 {
    const ADAM: &'static str = "adam_step_f64";
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
    let args = [
        (&w).into(),
        (&m).into(),
        (&v).into(),
        (&g).into(),
        n.into(),
        Arg::Double(1.0 - step.betas[0]),
        Arg::Double(step.betas[1]),
        Arg::Double(1.0 - step.betas[1]),
        Arg::Double(step.lr / correction1),
        Arg::Double(correction2.sqrt().recip()),
        Arg::Double(step.eps),
        Arg::Int(decay_kind),
        Arg::Double(decay),
        Arg::Double(step.grad_scale),
        step.zero_grad.into(),
        step.lazy.into(),
    ];
    launch(&ADAM, E::ADAM, w.device(), Grid::elements(n), &args)
}

/// Moves averages towards their weights.
fn moving_average<E: AdamElement>(rate: f64, average: SliceMut<E>, w: Slice<E>) -> Result<()> {
    let n = average.len();
    check_len("ema", "elements", w.len(), n)?;
    let args = [(&average).into(), w.into(), n.into(), Arg::Double(rate)];
    launch(&ADAM, E::EMA, average.device(), Grid::elements(n), &args)
}
