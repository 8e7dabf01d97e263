//! SGD on CUDA: one pass over weights, momentum and gradient.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::SgdKernel;
use crate::bridge::cuda::calls::{launch, Arg, Grid, SliceMut, SGD};
use crate::error::Result;
use crate::kernels::args::sgd::SgdStep;

macro_rules! on_cuda {
    ($($E:ty: $name:literal;)*) => {$(
        impl SgdKernel<$E> for Cuda {
            fn sgd_update(
                step: &SgdStep,
                w: SliceMut<'_, $E>,
                buffer: Option<SliceMut<'_, $E>>,
                g: SliceMut<'_, $E>,
            ) -> Result<Option<f64>> {
                let n = w.len();
                check_len("sgd", "elements of the gradient", g.len(), n)?;
                let in_buffer = buffer.as_ref().map_or(n, |buffer| buffer.len());
                check_len("sgd", "elements of the momentum buffer", in_buffer, n)?;
                let [keep, add] = step.buffer_factors();
                let args = [
                    (&w).into(),
                    buffer.as_ref().into(),
                    (&g).into(),
                    n.into(),
                    Arg::Double(step.lr),
                    Arg::Double(step.momentum),
                    Arg::Double(keep),
                    Arg::Double(add),
                    Arg::Double(step.weight_decay),
                    Arg::Double(step.grad_scale),
                    step.nesterov.into(),
                    step.zero_grad.into(),
                ];
                launch(&SGD, $name, w.device(), Grid::elements(n), &args)?;
                Ok(None)
            }
        }
    )*};
}
on_cuda! {
    f32: "sgd_step_f32";
    f64: "sgd_step_f64";
}
