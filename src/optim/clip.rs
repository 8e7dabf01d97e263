//! Gradient clipping.

use dfdx::dtypes::Dtype;
use dfdx::nn::TensorCollection;
use dfdx::tensor::Gradients;

use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, AnyTensor, Part};
use crate::bridge::{View, ViewMut};
use crate::error::{Error, Result};
use crate::profile::timed;

/// PyTorch's small number in the denominator.
const EPS: f64 = 1e-6;

/// The norm of the gradient of all parameters together. Its sum is taken in f64.
///
/// A parameter that had no gradient has zeros afterwards, here and in the functions below.
///
/// # Errors
/// [`Error::Device`] if the device fails.
pub fn grad_norm<M, E, D>(model: &M, grads: &mut Gradients<E, D>) -> Result<f64>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E>,
{
    norm_of(model, grads, &|_| true)
}

/// Multiplies the gradient by max_norm / norm if its norm, over all parameters together, is larger than
/// `max_norm` (`torch.nn.utils.clip_grad_norm_`), and returns the norm that it had. For training loops of
/// your own: [`Trainer::with_clip_norm`](crate::train::Trainer::with_clip_norm) does so without a further
/// pass over memory.
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::optim::clip_grad_norm;
///
/// let dev = Cpu::default();
/// let w: Tensor<Rank1<2>, f32, _> = dev.tensor([3.0, 4.0]);
/// let mut grads = w.leaky_trace().square().sum().backward();
/// assert_eq!(clip_grad_norm(&w, &mut grads, 1.0)?, 10.0);
/// let clipped = grads.get(&w).array();
/// assert!((clipped[0] - 0.6).abs() < 1e-6 && (clipped[1] - 0.8).abs() < 1e-6);
/// # Ok::<(), ssprop::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] unless `max_norm` is finite and greater than 0; as [`grad_norm`].
pub fn clip_grad_norm<M, E, D>(model: &M, grads: &mut Gradients<E, D>, max_norm: f64) -> Result<f64>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E>,
{
    check("max_norm", max_norm)?;
    let norm = grad_norm(model, grads)?;
    let factor = factor(max_norm, norm);
    if factor < 1.0 {
        scale_gradients(model, grads, factor)?;
    }
    Ok(norm)
}

/// Brings every element of the gradient into -limit..=limit (`torch.nn.utils.clip_grad_value_`). NaN
/// stays NaN.
///
/// # Errors
/// [`Error::Parameter`] unless `limit` is finite and greater than 0; as [`grad_norm`].
pub fn clip_grad_value<M, E, D>(model: &M, grads: &mut Gradients<E, D>, limit: f64) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E>,
{
    check("clip_value", limit)?;
    for_each_gradient(model, grads, &mut |_, g| D::clamp_gradient(limit, g))
}

/// Multiplies the gradient by a factor.
///
/// # Errors
/// As [`grad_norm`].
pub fn scale_gradients<M, E, D>(model: &M, grads: &mut Gradients<E, D>, factor: f64) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E>,
{
    match factor == 1.0 {
        true => Ok(()),
        false => for_each_gradient(model, grads, &mut |_, g| D::scale_gradient(factor, g)),
    }
}

/// How gradients are kept small.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clip {
    norm: Option<f64>,
    value: Option<f64>,
}

impl Clip {
    pub(crate) fn with_norm(self, max_norm: f64) -> Result<Self> {
        check("clip_norm", max_norm)?;
        Ok(Self {
            norm: Some(max_norm),
            ..self
        })
    }

    pub(crate) fn with_value(self, limit: f64) -> Result<Self> {
        check("clip_value", limit)?;
        Ok(Self {
            value: Some(limit),
            ..self
        })
    }

    /// What `scale` times the gradients of the parameters that are `trained` have to be multiplied by
    /// instead, and the norm that they have if it had to be found. Values are clipped here, a norm by the
    /// factor, which costs the optimizer nothing.
    pub(crate) fn apply<M, E, D>(
        &self,
        model: &M,
        grads: &mut Gradients<E, D>,
        scale: f64,
        trained: &dyn Fn(&str) -> bool,
    ) -> Result<(f64, Option<f64>)>
    where
        M: TensorCollection<E, D>,
        E: Dtype,
        D: Backend<E>,
    {
        if self.norm.is_none() && self.value.is_none() {
            return Ok((scale, None));
        }
        timed("clipping", || {
            if let Some(limit) = self.value {
                clip_grad_value(model, grads, limit / scale)?;
            }
            let Some(max_norm) = self.norm else {
                return Ok((scale, None));
            };
            let norm = scale * norm_of(model, grads, trained)?;
            Ok((scale * factor(max_norm, norm), Some(norm)))
        })
    }
}

/// What a gradient of this norm is multiplied by. NaN for one that is not finite.
fn factor(max_norm: f64, norm: f64) -> f64 {
    match max_norm / (norm + EPS) {
        factor if factor >= 1.0 => 1.0,
        factor => factor,
    }
}

fn check(name: &'static str, value: f64) -> Result<()> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::parameter(name, value, "finite and greater than 0")),
    }
}

fn norm_of<M, E, D>(
    model: &M,
    grads: &mut Gradients<E, D>,
    trained: &dyn Fn(&str) -> bool,
) -> Result<f64>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E>,
{
    let mut count = 0;
    let mut of_device = None;
    for_each_weight::<M, E, D>(model, &mut |name, param| {
        count += usize::from(trained(name));
        of_device = Some(param.device().clone());
        Ok(())
    })?;
    let Some(dev) = of_device else {
        return Ok(0.0);
    };
    // One for each gradient, so that the host waits for the device once.
    let mut squares = dev.take_importance(count)?;
    let mut at = 0;
    for_each_weight(model, &mut |name, param| {
        if trained(name) {
            let g: View<'_, E, D> = D::buffer(param.gradient(grads)?);
            D::sum_of_squares(g, at, &mut squares)?;
            at += 1;
        }
        Ok(())
    })?;
    let squares = D::importance_to_host(squares)?;
    Ok(squares.into_iter().sum::<f64>().sqrt())
}

fn for_each_gradient<M, E, D>(
    model: &M,
    grads: &mut Gradients<E, D>,
    f: &mut dyn FnMut(&str, ViewMut<'_, E, D>) -> Result<()>,
) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E>,
{
    for_each_weight(model, &mut |name, param| {
        f(name, D::buffer_mut(param.gradient(grads)?))
    })
}

fn for_each_weight<M, E, D>(
    model: &M,
    f: &mut dyn FnMut(&str, &dyn AnyTensor<E, D>) -> Result<()>,
) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Backend<E>,
{
    for_each_part(model, &mut |name, part| match part {
        Part::Weight(param) => f(&name, param),
        Part::Statistic(_) | Part::Number(_) => Ok(()),
    })
}
