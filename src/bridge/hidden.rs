//! Hidden tensors: those between two operations of this crate.

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Gradients, HasErr, Merge, NoneTape, PutTape, SplitTape, Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;

use super::buffer::Buffer;
use super::contiguous::contiguous;
use super::device_error::DeviceError;
use super::grad::{Accumulate, GradSlot, GradTarget, Way};
use super::pool::Pooling;
use super::pooled_tensor::PooledTensor;
use super::unneeded;
use crate::error::{carried, Result};

/// A tensor and the way of its gradient: in a slot, or if it is one of dfdx's through `Gradients`.
///
/// Every operation takes hidden tensors and returns one. [`From`] and [`into_tensor`](Self::into_tensor)
/// lead in and out.
#[derive(Debug)]
pub struct Hidden<S: Shape, E: Dtype, D: Pooling<E>, T = NoneTape> {
    tensor: PooledTensor<S, E, D>,
    origin: Origin<E, D>,
    /// Whether outputs computed from it stay inside the network, so they can be pooled buffers.
    inside: bool,
    tape: T,
}

/// What made a hidden tensor, and so where its gradient goes.
#[derive(Clone, Debug)]
enum Origin<E: Dtype, D: Pooling<E>> {
    /// dfdx, or whoever called the network.
    Dfdx,
    /// An operation of this crate.
    Operation(GradSlot<E, D>),
    /// Operations on what needs no gradient.
    Unneeded,
}

/// What a backward hook returns.
type Hooked<D> = std::result::Result<(), <D as HasErr>::Err>;

/// An operation's input, taken off its tape.
pub struct Input<S: Shape, E: Dtype, D: Pooling<E>> {
    /// Its elements, contiguous.
    pub tensor: PooledTensor<S, E, D>,
    /// Where its gradient goes.
    pub grad: GradTarget<E, D>,
    inside: bool,
}

impl<S: Shape, E: Dtype, D: Pooling<E>> Input<S, E, D> {
    /// Room for an operation's output.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    pub fn output<Y: Shape>(&self, shape: Y) -> Result<PooledTensor<Y, E, D>> {
        match self.inside {
            true => PooledTensor::take(self.tensor.device(), shape),
            false => PooledTensor::zeros(self.tensor.device(), shape),
        }
    }
}

impl<S, E, D, T> Hidden<S, E, D, T>
where
    S: Shape,
    E: Dtype,
    D: Device<E> + Accumulate<E>,
    T: Tape<E, D>,
{
    /// A network's input. Its layers' outputs come from the pool, the first one's too; what the
    /// network returns is copied.
    pub fn enter(x: Tensor<S, E, D, T>) -> Self {
        let mut x = Self::from(x);
        x.inside = true;
        x
    }

    /// An operation's output `y`, with its backward `hook` on the tape, which gets the output's
    /// gradient. It is not called if there is none. `is_wanted` tells whether the gradient of an input or of a
    /// parameter is: otherwise nothing is recorded, and the operations after this one give no gradient to it.
    pub fn recorded(
        y: PooledTensor<S, E, D>,
        tape: T,
        is_wanted: bool,
        hook: impl FnOnce(Buffer<E, D>, &mut Gradients<E, D>) -> Hooked<D> + 'static,
    ) -> Self {
        Self::recorded_with(y, tape, is_wanted, GradSlot::new(false), hook)
    }

    /// [`recorded`](Self::recorded) with a slot that the hook knows too.
    pub fn recorded_with(
        y: PooledTensor<S, E, D>,
        mut tape: T,
        is_wanted: bool,
        slot: GradSlot<E, D>,
        hook: impl FnOnce(Buffer<E, D>, &mut Gradients<E, D>) -> Hooked<D> + 'static,
    ) -> Self {
        let origin = match is_wanted {
            true => Origin::Operation(slot.clone()),
            false => Origin::Unneeded,
        };
        if is_wanted {
            tape.add_backward_op(move |grads| match slot.take() {
                Some(dy) => hook(dy, grads),
                None => Ok(()),
            });
        }
        Self {
            tensor: y,
            origin,
            inside: true,
            tape,
        }
    }

    /// The tensor with contiguous storage, where its gradient goes, and its tape.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    pub fn split(mut self) -> Result<(Input<S, E, D>, T)> {
        let tape = std::mem::take(&mut self.tape);
        self.split_onto(tape)
    }

    /// [`split`](Self::split) of an operation's second input, whose tape goes onto the first one's
    /// `tape`. (It may have none of its own, and still get a gradient.)
    ///
    /// # Errors
    /// As there.
    pub fn split_onto<To>(self, tape: To) -> Result<(Input<S, E, D>, To)>
    where
        To: Tape<E, D> + Merge<T>,
    {
        carried::forget();
        let tape = tape.merge(self.tape);
        let inside = self.inside;
        let (tensor, way, tape) = match self.origin {
            // An operation's output is contiguous.
            Origin::Operation(slot) => (self.tensor, Way::Slot(slot), tape),
            Origin::Unneeded => (self.tensor, Way::Nowhere, tape),
            Origin::Dfdx => {
                // On the tape: the gradient of a copy is passed on.
                let tensor = self.tensor.into_tensor()?;
                let is_unneeded = unneeded::contains(&tensor);
                let (tensor, tape) = contiguous(&tensor, tape)?;
                let way = match is_unneeded {
                    true => Way::Nowhere,
                    false => Way::of(&tensor),
                };
                (PooledTensor::from_dfdx(tensor), way, tape)
            }
        };
        let input = Input {
            grad: GradTarget::new(way, &tensor),
            tensor,
            inside,
        };
        Ok((input, tape))
    }

    /// [`split_onto`](Self::split_onto) of an input that there need not be.
    ///
    /// # Errors
    /// As there.
    pub fn split_option(input: Option<Self>, tape: T) -> Result<(Option<Input<S, E, D>>, T)> {
        match input {
            Some(input) => input
                .split_onto(tape)
                .map(|(input, tape)| (Some(input), tape)),
            None => Ok((None, tape)),
        }
    }

    /// For operations outside: from here on the gradient goes through `Gradients`.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    pub fn into_tensor(self) -> Result<Tensor<S, E, D, T>> {
        let mut tape = self.tape;
        let tensor = self.tensor.into_tensor()?;
        if matches!(self.origin, Origin::Unneeded) {
            unneeded::add(&tensor);
        }
        if let (Origin::Operation(slot), true) = (self.origin, T::OWNS_TAPE) {
            let (dev, ghost) = (tensor.device().clone(), tensor.ghost());
            tape.add_backward_op(move |grads| {
                // Nobody needs it afterwards: an empty one stays, and the memory is free early.
                let empty = Storage::<E>::try_alloc_len(&dev, 0)?;
                let dy = std::mem::replace(grads.get_or_alloc_mut(&ghost)?, empty);
                slot.add(Buffer::from_dfdx(dy)).map_err(D::device_error)
            });
        }
        Ok(tensor.put_tape(tape))
    }

    /// The same tensor with an empty tape, for a second consumer (a shortcut, say). Gradients of both consumers
    /// add up. (Two of dfdx's tensors of one identity would not: at most one of both may leave by
    /// [`into_tensor`](Self::into_tensor).)
    pub fn with_empty_tape(&self) -> Self {
        Self {
            tensor: self.tensor.clone(),
            origin: self.origin.clone(),
            inside: self.inside,
            tape: T::default(),
        }
    }
}

impl<S: Shape, E: Dtype, D: Pooling<E>, T> HasShape for Hidden<S, E, D, T> {
    type WithShape<New: Shape> = Hidden<New, E, D, T>;
    type Shape = S;
    fn shape(&self) -> &S {
        self.tensor.shape()
    }
}

/// One of dfdx's tensors.
impl<S, E, D, T> From<Tensor<S, E, D, T>> for Hidden<S, E, D, T>
where
    S: Shape,
    E: Dtype,
    D: Pooling<E> + DeviceError,
    T: Tape<E, D>,
{
    fn from(tensor: Tensor<S, E, D, T>) -> Self {
        let (tensor, tape) = tensor.split_tape();
        Self {
            tensor: PooledTensor::from_dfdx(tensor),
            origin: Origin::Dfdx,
            inside: false,
            tape,
        }
    }
}
