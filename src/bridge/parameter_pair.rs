//! Where the gradients of a norm's weight and bias go, which one kernel makes.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Gradients, Tape, Tensor};

use super::buffer::Buffer;
use super::grad::Accumulate;
use super::host::HostAccess;
use super::parameter::Parameter;
use super::view::ViewMut;
use crate::error::Result;

/// The ways to the gradients of a weight and a bias with as many elements.
pub struct ParameterPair<E: Dtype, D: HostAccess<E>> {
    pair: [Parameter<E, D>; 2],
    len: usize,
}

impl<E: Dtype, D: HostAccess<E> + Accumulate<E>> ParameterPair<E, D> {
    /// Those of tensors that an operation uses, as [`Parameter::of`].
    ///
    /// # Errors
    /// As there.
    pub fn of<S: Shape, T: Tape<E, D>>(
        op: &'static str,
        weight: &Tensor<S, E, D>,
        bias: &Tensor<S, E, D>,
    ) -> Result<Self> {
        let pair = [
            Parameter::of::<_, T>(op, weight)?,
            Parameter::of::<_, T>(op, bias)?,
        ];
        let len = weight.shape().num_elements();
        Ok(Self { pair, len })
    }

    /// Whether the gradient of one of them is wanted.
    pub fn is_trained(&self) -> bool {
        self.pair.iter().any(Parameter::is_trained)
    }

    /// Has `write`, which may use `grads` too, add to both gradients. Instead of one that is not wanted it gets memory
    /// that nobody reads. Both may be one tensor.
    ///
    /// # Errors
    /// Those of `write`; the device's if memory runs out.
    pub fn write(
        &self,
        dev: &D,
        grads: &mut Gradients<E, D>,
        write: impl FnOnce(&mut Gradients<E, D>, [ViewMut<'_, E, D>; 2]) -> Result<(), D::Err>,
    ) -> Result<(), D::Err> {
        let mut places = [None; 2];
        for (parameter, place) in self.pair.iter().zip(&mut places) {
            let gradient = parameter.gradient(grads)?;
            *place = gradient.map(|gradient| D::address(D::buffer(gradient)));
        }
        let is_one_tensor = self.len > 0 && places[0].is_some() && places[0] == places[1];

        let mut others = [None, None];
        let mut views = [None, None];
        for (i, (other, view)) in others.iter_mut().zip(&mut views).enumerate() {
            *view = Some(match self.pair[i].gradient(grads)? {
                // SAFETY: `grads` keeps the memory, wherever it moves the buffer that owns it. While `write` runs
                // nobody else uses it: the other gradient is not this one, nor is what an operation's hook writes
                // beside them.
                Some(gradient) if !(is_one_tensor && i == 1) => unsafe {
                    D::extended(D::buffer_mut(gradient))
                },
                Some(_) => {
                    let zeros = dev.buffer_from_host(&vec![E::default(); self.len]);
                    let zeros = zeros.map_err(D::device_error)?;
                    other.insert(Buffer::from_dfdx(zeros)).view_mut()
                }
                None => {
                    let unread = Buffer::take(dev, self.len).map_err(D::device_error)?;
                    other.insert(unread).view_mut()
                }
            });
        }
        write(grads, views.map(|view| view.expect("both are set")))?;
        for (parameter, other) in self.pair.iter().zip(&others) {
            match other {
                Some(other) => {
                    parameter.write(grads, None, |to| D::accumulate(to, other.view()))?;
                }
                None => parameter.tell(grads, None)?,
            }
        }
        Ok(())
    }
}
