//! Where the gradient of a parameter goes.

use dfdx::dtypes::Dtype;
use dfdx::shapes::Shape;
use dfdx::tensor::{Gradients, Tape, Tensor};

use super::device_error::DeviceError;
use super::exchange;
use super::grad::Find;
use super::host::HostAccess;
use super::unneeded;
use super::view::ViewMut;
use crate::error::Result;

/// The way to a parameter's gradient in dfdx's `Gradients`. Other ranks of a distributed training are told
/// once it is written.
pub struct Parameter<E: Dtype, D: HostAccess<E>> {
    /// `None` if nobody needs it.
    find: Option<Find<E, D>>,
}

impl<E: Dtype, D: HostAccess<E> + DeviceError> Parameter<E, D> {
    /// That of a tensor that an operation uses, whose backward hook, if it has a tape `T`, calls
    /// [`write`](Self::write) once.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if it is not contiguous.
    pub fn of<S: Shape, T: Tape<E, D>>(op: &'static str, tensor: &Tensor<S, E, D>) -> Result<Self> {
        if unneeded::contains(tensor) {
            return Ok(Self { find: None });
        }
        // Without a tape no hook is going to write.
        if let Some(exchange) = exchange::current().filter(|_| T::OWNS_TAPE) {
            exchange.used(D::address(D::view(op, tensor)?));
        }
        let ghost = tensor.ghost();
        Ok(Self {
            find: Some(Box::new(move |grads| grads.get_or_alloc_mut(&ghost))),
        })
    }

    /// Whether its gradient is wanted.
    pub fn is_trained(&self) -> bool {
        self.find.is_some()
    }

    /// [`of`](Self::of) a layer's weight and bias, if they are trained.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn of_layer<W: Shape, B: Shape, T: Tape<E, D>>(
        op: &'static str,
        weight: &Tensor<W, E, D>,
        bias: Option<&Tensor<B, E, D>>,
    ) -> Result<[Option<Self>; 2]> {
        let parameters = [
            Some(Self::of::<_, T>(op, weight)?),
            bias.map(|bias| Self::of::<_, T>(op, bias)).transpose()?,
        ];
        Ok(parameters.map(|of| of.filter(Self::is_trained)))
    }

    /// Has `write` add to the gradient, if it is wanted, in these `rows` of its first dimension or in all.
    ///
    /// # Errors
    /// Those of `write`; the device's if memory runs out.
    pub fn write(
        &self,
        grads: &mut Gradients<E, D>,
        rows: Option<&[usize]>,
        write: impl FnOnce(ViewMut<'_, E, D>) -> Result<()>,
    ) -> Result<(), D::Err> {
        if let Some(gradient) = self.gradient(grads)? {
            write(D::buffer_mut(gradient)).map_err(D::device_error)?;
        }
        self.tell(grads, rows)
    }

    /// The gradient, if it is wanted. Who has added to it [tells](Self::tell) of it.
    pub(super) fn gradient<'g>(
        &self,
        grads: &'g mut Gradients<E, D>,
    ) -> Result<Option<&'g mut D::Vec>, D::Err> {
        self.find.as_ref().map(|find| find(grads)).transpose()
    }

    /// Tells other ranks, if there are any, that these `rows` of the gradient are written.
    pub(super) fn tell(
        &self,
        grads: &mut Gradients<E, D>,
        rows: Option<&[usize]>,
    ) -> Result<(), D::Err> {
        let Some(exchange) = exchange::current() else {
            return Ok(());
        };
        let Some(gradient) = self.gradient(grads)? else {
            return Ok(());
        };
        let address = D::address(D::buffer(gradient));
        let tell = || match D::floats(gradient)? {
            Some(values) => exchange.written(address, &values, rows),
            None => Ok(()),
        };
        tell().map_err(D::device_error)
    }
}
