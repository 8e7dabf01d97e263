//! Where a gradient goes.
//!
//! dfdx keeps the gradient of a tensor in its `Gradients`, in a buffer that it zeroes on one thread
//! when it is first asked for, and nobody outside can tell whether that was just now. So a hook has
//! to add to it: a pass of writes, then one of reads and writes, where one of writes would do.
//! Between two operations of this crate the gradient travels in a [`GradSlot`] instead: the first
//! writer overwrites any buffer of the right length, the others add.

use std::cell::RefCell;
use std::rc::Rc;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Gradients, Tensor};

use super::buffer::Buffer;
use super::device_error::DeviceError;
use super::pool::Pooling;
use super::pooled_tensor::PooledTensor;
use super::view::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::Fill;

/// A device that adds buffers.
pub trait Accumulate<E: Dtype>: Pooling<E> + Views<E> + DeviceError {
    /// `sum` += `term`, element by element.
    ///
    /// # Errors
    /// Those of the device.
    fn accumulate(sum: ViewMut<'_, E, Self>, term: View<'_, E, Self>) -> Result<()>;
}

/// The gradient of a hidden tensor on its way from its users' hooks to its maker's.
#[derive(Debug)]
pub struct GradSlot<E: Dtype, D: Pooling<E>>(Rc<Slot<E, D>>);

#[derive(Debug)]
struct Slot<E: Dtype, D: Pooling<E>> {
    gradient: RefCell<Option<Buffer<E, D>>>,
    /// Mean |gradient| of each channel, if who wrote the gradient has computed it on the way.
    importance: RefCell<Option<D::Importance>>,
    wants_importance: bool,
}

impl<E: Dtype, D: Pooling<E>> Clone for GradSlot<E, D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Dtype, D: Pooling<E>> GradSlot<E, D> {
    /// The slot of an operation's output; whether the operation ranks its channels by their
    /// gradient's mean absolute value.
    pub fn new(wants_importance: bool) -> Self {
        Self(Rc::new(Slot {
            gradient: RefCell::new(None),
            importance: RefCell::new(None),
            wants_importance,
        }))
    }

    /// The gradient so far; `None` if nobody has put one.
    pub fn take(&self) -> Option<Buffer<E, D>> {
        self.0.gradient.borrow_mut().take()
    }

    /// The importance of the gradient's channels, if it is known.
    pub fn take_importance(&self) -> Option<D::Importance> {
        self.0.importance.borrow_mut().take()
    }

    fn is_empty(&self) -> bool {
        self.0.gradient.borrow().is_none()
    }

    fn put(&self, gradient: Buffer<E, D>) {
        // An earlier importance was that of another sum.
        self.0.importance.borrow_mut().take();
        *self.0.gradient.borrow_mut() = Some(gradient);
    }

    /// Adds `gradient` to what others have put; an empty slot takes it as it is.
    ///
    /// # Errors
    /// Those of the device.
    pub fn add(&self, gradient: Buffer<E, D>) -> Result<()>
    where
        D: Accumulate<E>,
    {
        let sum = match self.take() {
            None => gradient,
            Some(mut sum) => {
                D::accumulate(sum.view_mut(), gradient.view())?;
                sum
            }
        };
        self.put(sum);
        Ok(())
    }
}

/// Finds a tensor's buffer in `Gradients`. (The type of a ghost tensor cannot be named outside dfdx.)
pub(super) type Find<E, D> = Box<
    dyn Fn(
        &mut Gradients<E, D>,
    ) -> std::result::Result<
        &mut <D as dfdx::tensor::Storage<E>>::Vec,
        <D as dfdx::tensor::HasErr>::Err,
    >,
>;

/// Where the gradient of an operation's input goes.
pub struct GradTarget<E: Dtype, D: Pooling<E>> {
    way: Way<E, D>,
    dev: D,
    /// The input's elements.
    len: usize,
}

pub(super) enum Way<E: Dtype, D: Pooling<E>> {
    /// To the hook of the operation that made it.
    Slot(GradSlot<E, D>),
    /// To dfdx's `Gradients`.
    Dfdx(Find<E, D>),
    /// Nowhere: nobody [needs](super::unneeded) it.
    Nowhere,
}

impl<E: Dtype, D: Pooling<E>> Way<E, D> {
    /// That of one of dfdx's tensors.
    pub fn of<S: Shape, T>(tensor: &Tensor<S, E, D, T>) -> Self {
        let ghost = tensor.ghost();
        Self::Dfdx(Box::new(move |grads| grads.get_or_alloc_mut(&ghost)))
    }
}

impl<E: Dtype, D: Accumulate<E>> GradTarget<E, D> {
    pub(super) fn new<S: Shape>(way: Way<E, D>, input: &PooledTensor<S, E, D>) -> Self {
        Self {
            way,
            dev: input.device().clone(),
            len: input.shape().num_elements(),
        }
    }

    /// Whether the gradient is for anything.
    pub fn is_wanted(&self) -> bool {
        !matches!(self.way, Way::Nowhere)
    }

    /// Whether nobody has put a gradient, and the first that is put goes as it is.
    pub fn is_empty_slot(&self) -> bool {
        matches!(&self.way, Way::Slot(slot) if slot.is_empty())
    }

    /// Room for the importance of `channels` channels, if the input's maker has a use for it.
    ///
    /// # Errors
    /// The device's if memory runs out.
    pub fn importance_room(&self, channels: usize) -> Result<Option<D::Importance>> {
        match &self.way {
            Way::Slot(slot) if slot.0.wants_importance => {
                self.dev.take_importance(channels).map(Some)
            }
            Way::Slot(_) | Way::Dfdx(_) | Way::Nowhere => Ok(None),
        }
    }

    /// Notes the importance of the gradient that has just been put.
    pub fn put_importance(&self, importance: D::Importance) {
        if let Way::Slot(slot) = &self.way {
            *slot.0.importance.borrow_mut() = Some(importance);
        }
    }

    /// Has `write` add to the gradient, or overwrite it, if it is wanted.
    ///
    /// # Errors
    /// Those of `write`; the device's if memory runs out.
    pub fn write(
        &self,
        grads: &mut Gradients<E, D>,
        write: impl FnOnce(ViewMut<'_, E, D>, Fill) -> Result<()>,
    ) -> std::result::Result<(), D::Err> {
        let slot = match &self.way {
            Way::Dfdx(find) => {
                let gradient = D::buffer_mut(find(grads)?);
                return write(gradient, Fill::Add).map_err(D::device_error);
            }
            Way::Slot(slot) => slot,
            Way::Nowhere => return Ok(()),
        };
        let (mut gradient, fill) = match slot.take() {
            Some(gradient) => (gradient, Fill::Add),
            None => {
                let buffer = self.take().map_err(D::device_error)?;
                (buffer, Fill::Overwrite)
            }
        };
        write(gradient.view_mut(), fill).map_err(D::device_error)?;
        slot.put(gradient);
        Ok(())
    }

    fn take(&self) -> Result<Buffer<E, D>> {
        Buffer::take(&self.dev, self.len)
    }

    /// [`write`](Self::write), also if the gradient is not wanted: for a kernel that computes others along with it.
    ///
    /// # Errors
    /// As there.
    pub fn write_anyway(
        &self,
        grads: &mut Gradients<E, D>,
        write: impl FnOnce(ViewMut<'_, E, D>, Fill) -> Result<()>,
    ) -> std::result::Result<(), D::Err> {
        if self.is_wanted() {
            return self.write(grads, write);
        }
        self.take()
            .and_then(|mut unused| write(unused.view_mut(), Fill::Overwrite))
            .map_err(D::device_error)
    }

    /// Adds `gradient`.
    ///
    /// # Errors
    /// The device's if memory runs out.
    pub fn add(
        &self,
        grads: &mut Gradients<E, D>,
        gradient: Buffer<E, D>,
    ) -> std::result::Result<(), D::Err> {
        match &self.way {
            Way::Slot(slot) => slot.add(gradient),
            Way::Dfdx(find) => D::accumulate(D::buffer_mut(find(grads)?), gradient.view()),
            Way::Nowhere => Ok(()),
        }
        .map_err(D::device_error)
    }
}
