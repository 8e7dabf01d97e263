//! Adam on CUDA: dfdx's own fused kernel, whose formula is the same.

use dfdx::dtypes::Dtype;
use dfdx::optim::WeightDecay;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Cuda, Storage, Tensor};
use dfdx::tensor_ops::Device;

use super::kernel::{AdamKernel, AdamStep};
use crate::error::{Error, Result};

fn update<S: Shape, E: Dtype, D: Device<E>>(
    step: &AdamStep,
    param: &mut Tensor<S, E, D>,
    exp_avg: &mut <D as Storage<E>>::Vec,
    exp_avg_sq: &mut <D as Storage<E>>::Vec,
    grad: &mut <D as Storage<E>>::Vec,
) -> Result<()> {
    let cfg = &step.cfg;
    let dev = param.device().clone();
    let len = param.shape().num_elements();
    for (what, found) in [
        ("elements of the gradient", Storage::<E>::len(&dev, grad)),
        (
            "elements of the first moment",
            Storage::<E>::len(&dev, exp_avg),
        ),
        (
            "elements of the second moment",
            Storage::<E>::len(&dev, exp_avg_sq),
        ),
    ] {
        if found != len {
            return Err(Error::shape("adam", what, len, found));
        }
    }
    let t = i32::try_from(step.step)
        .map_err(|_| Error::parameter("step", step.step, "at most 2^31 - 1 on CUDA"))?;
    let dfdx_cfg = dfdx::optim::AdamConfig {
        lr: cfg.lr,
        betas: cfg.betas,
        eps: cfg.eps,
        weight_decay: match (cfg.weight_decay != 0.0, cfg.decoupled) {
            (false, _) => None,
            (true, false) => Some(WeightDecay::L2(cfg.weight_decay)),
            (true, true) => Some(WeightDecay::Decoupled(cfg.weight_decay)),
        },
    };
    dfdx_cfg
        .try_update(t, param, exp_avg, exp_avg_sq, grad)
        .map_err(Error::device)?;
    if step.zero_grad {
        dev.try_fill_with_zeros(grad).map_err(Error::device)?;
    }
    Ok(())
}

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
                update(step, param, exp_avg, exp_avg_sq, grad)
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
                average
                    .try_axpy(1.0 - rate, param, rate)
                    .map_err(Error::device)
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
