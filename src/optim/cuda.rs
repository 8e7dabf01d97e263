//! Adam on CUDA.

use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Cuda, Storage, Tensor};

use super::kernel::{AdamKernel, AdamStep};
use crate::backend::cuda::adam;
use crate::bridge::Views;
use crate::error::{Error, Result};
use crate::kernels::args;

macro_rules! cuda_kernel {
    ($($e:ty),*) => {$(
        impl AdamKernel<$e> for Cuda {
            fn adam_update<S: Shape>(
                &self,
                step: &AdamStep,
                param: &mut Tensor<S, $e, Self>,
                exp_avg: &mut Self::Vec,
                exp_avg_sq: &mut Self::Vec,
                grad: &mut Self::Vec,
            ) -> Result<()> {
                let step = args::adam::AdamStep {
                    lr: step.cfg.lr,
                    betas: step.cfg.betas,
                    eps: step.cfg.eps,
                    weight_decay: step.cfg.weight_decay,
                    decoupled: step.cfg.decoupled,
                    step: step.step,
                    zero_grad: step.zero_grad,
                };
                adam::adam_update(
                    &step,
                    <Self as Views<$e>>::view_mut("adam", param)?,
                    <Self as Views<$e>>::buffer_mut(exp_avg),
                    <Self as Views<$e>>::buffer_mut(exp_avg_sq),
                    <Self as Views<$e>>::buffer_mut(grad),
                )
            }

            fn ema_update<S: Shape>(
                &self,
                rate: f64,
                average: &mut Tensor<S, $e, Self>,
                param: &Tensor<S, $e, Self>,
            ) -> Result<()> {
                if average.shape() != param.shape() {
                    return Err(Error::shape("ema", "shape", average.shape(), param.shape()));
                }
                adam::ema_update(
                    rate,
                    <Self as Views<$e>>::view_mut("ema", average)?,
                    <Self as Views<$e>>::view("ema", param)?,
                )
            }

            fn buffer_to_host(&self, buffer: &Self::Vec) -> Result<Vec<$e>> {
                buffer
                    .device()
                    .dtoh_sync_copy(&**buffer)
                    .map_err(|err| Error::Device(format!("{err:?}")))
            }

            fn buffer_from_host(&self, host: &[$e]) -> Result<Self::Vec> {
                let mut buffer: Self::Vec =
                    Storage::<$e>::try_alloc_len(self, host.len()).map_err(Error::device)?;
                let dev = buffer.device();
                dev.htod_sync_copy_into(host, &mut *buffer)
                    .map_err(|err| Error::Device(format!("{err:?}")))?;
                Ok(buffer)
            }
        }
    )*};
}
cuda_kernel!(f32, f64);
