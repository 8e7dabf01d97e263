//! Tensors between two operations of this crate, whose gradient goes from hook to hook.
//!
//! dfdx keeps the gradient of a tensor in its `Gradients`, in a buffer that it zeroes on one thread
//! when it is first asked for, and nobody outside can tell whether that was just now. So every hook
//! has to add to it: a pass of writes, then one of reads and writes, where one of writes would do.
//! Inside a model only this crate's operations see the tensors. There the gradient goes over a
//! [`Link`]: whoever comes first overwrites any buffer of the right length, the others add.

use std::cell::RefCell;
use std::rc::Rc;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{NoneTape, PutTape, SplitTape, Storage, Tape, Tensor};
use dfdx::tensor_ops::ReshapeTo;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::ops::add::AddKernel;
use crate::ops::held::Held;
use crate::recycle::Recycle;

/// What a kernel does with the buffer that it is given for a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Adds to it.
    Add,
    /// Writes every element; what was there does not matter.
    Overwrite,
}

/// The gradient of one tensor on its way from its users' hooks to its maker's.
#[derive(Debug)]
pub(crate) struct Link<V>(Rc<Shared<V>>);

#[derive(Debug)]
struct Shared<V> {
    gradient: RefCell<Option<V>>,
    /// Mean |gradient| of each channel, if who wrote the gradient has taken it on the way.
    importance: RefCell<Option<Vec<f64>>>,
    /// Whether the maker has a use for it.
    ranked: bool,
}

impl<V> Clone for Link<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> Link<V> {
    pub(crate) fn new() -> Self {
        Self::of(false)
    }

    /// A link to a maker that ranks its channels.
    pub(crate) fn ranked() -> Self {
        Self::of(true)
    }

    fn of(ranked: bool) -> Self {
        Self(Rc::new(Shared {
            gradient: RefCell::new(None),
            importance: RefCell::new(None),
            ranked,
        }))
    }

    /// Whether the maker has a use for the channels' importance.
    pub(crate) fn is_ranked(&self) -> bool {
        self.0.ranked
    }

    /// The gradient so far; `None` if nobody has put one.
    pub(crate) fn take(&self) -> Option<V> {
        self.0.gradient.borrow_mut().take()
    }

    /// Whether nobody has put a gradient.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.gradient.borrow().is_none()
    }

    pub(crate) fn put(&self, gradient: V) {
        // An earlier importance was that of another sum.
        self.0.importance.borrow_mut().take();
        *self.0.gradient.borrow_mut() = Some(gradient);
    }

    /// Adds a gradient to what others have put; over an empty link it goes as it is.
    pub(crate) fn add<E: Dtype, D>(&self, dev: &D, gradient: V)
    where
        D: AddKernel<E> + Recycle<E> + Storage<E, Vec = V>,
    {
        match self.take() {
            None => self.put(gradient),
            Some(mut sum) => {
                D::accumulate(&mut sum, &gradient);
                self.put(sum);
                dev.recycle(gradient);
            }
        }
    }

    /// Notes the importance of the gradient that has just been put.
    pub(crate) fn put_importance(&self, importance: Vec<f64>) {
        *self.0.importance.borrow_mut() = Some(importance);
    }

    /// The importance of the gradient, if it is known.
    pub(crate) fn take_importance(&self) -> Option<Vec<f64>> {
        self.0.importance.borrow_mut().take()
    }

    /// The buffer that a gradient of `len` elements goes to, and what is to be done with it. It has
    /// to be [`put`](Link::put) back.
    pub(crate) fn open<E: Dtype, D: Recycle<E, Vec = V>>(
        &self,
        dev: &D,
        len: usize,
    ) -> Result<(V, Fill)> {
        match self.take() {
            Some(gradient) => Ok((gradient, Fill::Add)),
            None => Ok((dev.alloc_buffer(len)?, Fill::Overwrite)),
        }
    }
}

/// The buffer of a gradient.
pub(crate) type Buffer<E, D> = <D as Storage<E>>::Vec;

/// A tensor and the way of its gradient: over the link, or without one through `Gradients`.
pub struct Linked<S: Shape, E: Dtype, D: Recycle<E>, T = NoneTape> {
    tensor: Held<S, E, D>,
    link: Option<Link<Buffer<E, D>>>,
    tape: T,
}

impl<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>> Linked<S, E, D, T> {
    /// An operation's output, whose hook takes the gradient from `link`.
    pub(crate) fn new(tensor: Held<S, E, D>, link: Link<Buffer<E, D>>, tape: T) -> Self {
        Self {
            tensor,
            link: Some(link),
            tape,
        }
    }

    /// The tensor with contiguous storage, its link and its tape.
    pub(crate) fn split(self) -> Result<(Held<S, E, D>, Option<Link<Buffer<E, D>>>, T)> {
        // An operation's output is contiguous.
        if self.link.is_some() {
            return Ok((self.tensor, self.link, self.tape));
        }
        // On the tape: the gradient of a copy is passed on.
        let tensor = self.tensor.into_tensor()?.put_tape(self.tape);
        let (tensor, tape) = tensor.try_contiguous().map_err(Error::device)?.split_tape();
        Ok((Held::from_outside(tensor), None, tape))
    }

    /// For operations outside: from here on the gradient goes through `Gradients`.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    pub(crate) fn into_tensor(self) -> Result<Tensor<S, E, D, T>> {
        let mut tape = self.tape;
        let tensor = self.tensor.into_tensor()?;
        if let (Some(link), true) = (self.link, T::OWNS_TAPE) {
            let (dev, ghost) = (tensor.device().clone(), tensor.ghost());
            tape.add_backward_op(move |grads| {
                let gradient = take_grad!(dev, grads, &ghost);
                link.add(&dev, gradient);
                Ok(())
            });
        }
        Ok(tensor.put_tape(tape))
    }

    /// The same tensor, without what led to it on the tape. Gradients of both add up.
    pub(crate) fn with_empty_tape(&self) -> Self {
        Self {
            tensor: self.tensor.clone(),
            link: self.link.clone(),
            tape: T::default(),
        }
    }
}

impl<S: Shape, E: Dtype, D: Recycle<E>, T> HasShape for Linked<S, E, D, T> {
    type WithShape<New: Shape> = Linked<New, E, D, T>;
    type Shape = S;
    fn shape(&self) -> &S {
        self.tensor.shape()
    }
}

/// A tensor from outside: its gradient goes through `Gradients`.
impl<S: Shape, E: Dtype, D: Recycle<E>, T: Tape<E, D>> From<Tensor<S, E, D, T>>
    for Linked<S, E, D, T>
{
    fn from(tensor: Tensor<S, E, D, T>) -> Self {
        let (tensor, tape) = tensor.split_tape();
        Self {
            tensor: Held::from_outside(tensor),
            link: None,
            tape,
        }
    }
}

/// Has `$write`, a function of a buffer and a [`Fill`], add the gradient of `$x`, whose link is
/// `$link`. (A macro, since the type of a ghost tensor cannot be named outside dfdx.)
macro_rules! add_grad {
    ($dev:expr, $grads:expr, $x:expr, $link:expr, $len:expr, $write:expr) => {
        match &$link {
            None => $write($grads.get_or_alloc_mut($x)?, $crate::ops::linked::Fill::Add)?,
            Some(link) => {
                let (mut gradient, fill) = link.open(&$dev, $len).map_err(D::device_error)?;
                $write(&mut gradient, fill)?;
                link.put(gradient);
            }
        }
    };
}
pub(crate) use add_grad;

/// Adds the buffer `$dy` to the gradient of `$x`, whose link is `$link`, and is done with it.
macro_rules! hand_grad {
    ($dev:expr, $grads:expr, $x:expr, $link:expr, $dy:expr) => {
        match &$link {
            Some(link) => link.add(&$dev, $dy),
            None => {
                D::accumulate($grads.get_or_alloc_mut($x)?, &$dy);
                $dev.recycle($dy);
            }
        }
    };
}
pub(crate) use hand_grad;
