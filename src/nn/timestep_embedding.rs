//! Sinusoidal embedding of timesteps.

use crate::backend::Backend;
use dfdx::dtypes::Dtype;
use dfdx::shapes::{Const, Dim, HasShape};
use dfdx::tensor::Tensor;

use crate::bridge::{upload, values};
use crate::error::Result;

/// The longest wavelength over 2 pi.
const MAX_PERIOD: f64 = 10_000.0;

/// Embeds timesteps (B) as (B, DIM): cos(t w_i) for i < DIM / 2, then sin(t w_i), with w_i =
/// 10000^(-i / (DIM / 2)) (Vaswani et al., arXiv 1706.03762, Sec. 3.5; the order of arXiv
/// 2105.05233's code). The last element is 0 if DIM is odd.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if memory runs out.
///
/// ```
/// use ssprop::nn::timestep_embedding;
/// use ssprop::prelude::*;
///
/// let dev = Cpu::default();
/// let e: Tensor<Rank2<2, 4>, f32, _> = timestep_embedding(&dev.tensor([0.0, 1.0]))?;
/// assert_eq!(e.array()[0], [1.0, 1.0, 0.0, 0.0]);
/// assert_eq!(e.array()[1], [1f32.cos(), 0.01f32.cos(), 1f32.sin(), 0.01f32.sin()]);
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn timestep_embedding<const DIM: usize, B: Dim, E: Dtype, D: Backend<E>>(
    timesteps: &Tensor<(B,), E, D>,
) -> Result<Tensor<(B, Const<DIM>), E, D>> {
    let half = DIM / 2;
    let mut elements = Vec::with_capacity(timesteps.shape().0.size() * DIM);
    for t in values(timesteps) {
        let t = t.to_f64().unwrap_or(f64::NAN);
        let angle = |i: usize| t * MAX_PERIOD.powf(-(i as f64) / half as f64);
        let row = (0..half).map(|i| angle(i).cos());
        let row = row.chain((0..half).map(|i| angle(i).sin()));
        elements.extend(row.chain((half * 2..DIM).map(|_| 0.0)).map(|v| {
            // Floats convert.
            E::from_f64(v).unwrap_or_default()
        }));
    }
    upload(timesteps.device(), (timesteps.shape().0, Const), &elements)
}
