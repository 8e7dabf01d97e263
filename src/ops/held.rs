//! Tensors between two operations of this crate, whose memory the last one to need them hands on.
//!
//! dfdx zeroes a tensor's memory when it makes it, on one thread: a seventh of a U-Net's training
//! step. An operation overwrites its whole output, so any memory of the right size will do, and a
//! network's next step needs tensors of the same sizes as the last one. dfdx hands a tensor's memory
//! to nobody but its own cache, which zeroes. So the whole tensor is kept and used again, as what it
//! is: its identity, by which `Gradients` knows it, is that of another, dead one. Inside a model
//! gradients go over links, and nobody asks; whoever leaves gets a tensor of its own.

use std::ops::Deref;
use std::rc::Rc;

use dfdx::dtypes::Dtype;
use dfdx::shapes::Shape;
use dfdx::tensor::Tensor;

use crate::error::Result;
use crate::ops::linked::Link;
use crate::recycle::Recycle;

/// A tensor with contiguous storage that knows how many hold it.
#[derive(Debug)]
pub struct Held<S: Shape, E: Dtype, D: Recycle<E>> {
    /// `None` once it has been taken out.
    tensor: Option<Tensor<S, E, D>>,
    /// The model's device. A tensor that is used again may come from another of the same kind.
    dev: D,
    /// One for each holder; `None` for a tensor from outside, which others may hold.
    owners: Option<Rc<()>>,
    /// Whether its identity may be another's.
    reused: bool,
}

impl<S: Shape, E: Dtype, D: Recycle<E>> Held<S, E, D> {
    /// The output of an operation on a tensor with this link: its elements are anything.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    pub(crate) fn alloc<V>(dev: &D, link: &Option<Link<V>>, shape: S) -> Result<Self> {
        let reused = link.is_some();
        Ok(Self {
            tensor: Some(match reused {
                true => dev.alloc_inner(shape)?,
                false => dev.alloc_output(shape)?,
            }),
            dev: dev.clone(),
            owners: Some(Rc::new(())),
            reused,
        })
    }

    /// One that others may hold as well.
    pub(crate) fn from_outside(tensor: Tensor<S, E, D>) -> Self {
        Self {
            dev: tensor.device().clone(),
            tensor: Some(tensor),
            owners: None,
            reused: false,
        }
    }

    /// The model's device.
    pub(crate) fn device(&self) -> &D {
        &self.dev
    }

    /// To write it.
    pub(crate) fn tensor_mut(&mut self) -> &mut Tensor<S, E, D> {
        self.tensor.as_mut().expect("taken out by its owner alone")
    }

    /// The tensor, for outside.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    pub(crate) fn into_tensor(mut self) -> Result<Tensor<S, E, D>> {
        if self.reused {
            return self.dev.copy_of(&self);
        }
        // Whoever has it now may share it with others.
        self.owners = None;
        Ok(self.tensor.take().expect("taken out by its owner alone"))
    }
}

impl<S: Shape, E: Dtype, D: Recycle<E>> Deref for Held<S, E, D> {
    type Target = Tensor<S, E, D>;
    fn deref(&self) -> &Self::Target {
        self.tensor.as_ref().expect("taken out by its owner alone")
    }
}

impl<S: Shape, E: Dtype, D: Recycle<E>> Clone for Held<S, E, D> {
    fn clone(&self) -> Self {
        Self {
            tensor: self.tensor.clone(),
            dev: self.dev.clone(),
            owners: self.owners.clone(),
            reused: self.reused,
        }
    }
}

impl<S: Shape, E: Dtype, D: Recycle<E>> Drop for Held<S, E, D> {
    fn drop(&mut self) {
        let last = self
            .owners
            .as_ref()
            .is_some_and(|owners| Rc::strong_count(owners) == 1);
        if let (Some(tensor), true) = (self.tensor.take(), last) {
            self.dev.recycle_tensor(tensor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::*;

    // Sizes that no other test of this process uses.
    type Row = (usize,);

    fn alloc(dev: &Cpu, len: usize) -> Held<Row, f64, Cpu> {
        let linked = Some(Link::<Vec<f64>>::new());
        Held::alloc(dev, &linked, (len,)).unwrap()
    }

    fn place(tensor: &Tensor<Row, f64, Cpu>) -> *const f64 {
        &tensor[[0]]
    }

    #[test]
    fn the_last_holder_hands_the_memory_on() {
        let dev = Cpu::default();
        let first = alloc(&dev, 70_001);
        let at = place(&first);
        let second = first.clone();
        drop(first);
        let other = alloc(&dev, 70_001);
        assert_ne!(place(&other), at, "still held");
        drop(second);
        let mut again = alloc(&dev, 70_001);
        assert_eq!(place(&again), at);
        // Not a copy, though it is written.
        again.tensor_mut()[[3]] = 1.0;
        assert_eq!(place(&again), at);
    }

    #[test]
    fn what_leaves_is_not_handed_on() {
        let dev = Cpu::default();
        let mut inner = alloc(&dev, 70_002);
        inner.tensor_mut()[[1]] = 2.0;
        let left = inner.clone().into_tensor().unwrap();
        assert_ne!(
            place(&left),
            place(&inner),
            "reused: a copy with its own identity"
        );
        assert_eq!(left[[1]], 2.0);

        let none: Option<Link<Vec<f64>>> = None;
        let fresh = Held::<Row, f64, Cpu>::alloc(&dev, &none, (70_003,)).unwrap();
        let at = place(&fresh);
        let left = fresh.into_tensor().unwrap();
        assert_eq!(place(&left), at);
        let outside = Held::from_outside(left.clone());
        drop(outside);
        assert_ne!(place(&alloc(&dev, 70_003)), at);
        assert_eq!(place(&left), at);
    }
}
