//! Tensors between two operations of this crate.
//!
//! dfdx gives a freed tensor's memory to nobody but its own cache, which zeroes it on one thread: a
//! seventh of a U-Net's training step. So the pool keeps the whole tensor: a reused one has the id of
//! the dead one, by which `Gradients` looks tensors up, and the pool's device. Inside a network nobody asks
//! for either. A tensor that is returned to the caller is copied, so it has an id and a device of its own.

use std::ops::Deref;
use std::rc::Rc;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::Tensor;

use super::pool::Pooling;
use super::view::{View, ViewMut, Views};
use crate::error::{Error, Result};

/// A tensor with contiguous storage: the pool's, or one of dfdx's.
#[derive(Debug, Clone)]
pub struct PooledTensor<S: Shape, E: Dtype, D: Pooling<E>> {
    memory: Memory<S, E, D>,
    /// The network's device.
    dev: D,
}

#[derive(Debug, Clone)]
enum Memory<S: Shape, E: Dtype, D: Pooling<E>> {
    Pool(Rc<Owned<S, E, D>>),
    /// Others may hold it too.
    Dfdx(Tensor<S, E, D>),
}

/// A tensor that returns to its pool when its last holder drops it.
#[derive(Debug)]
struct Owned<S: Shape, E: Dtype, D: Pooling<E>> {
    /// `None` once it has been given back.
    tensor: Option<Tensor<S, E, D>>,
    pool: D,
}

impl<S: Shape, E: Dtype, D: Pooling<E>> Drop for Owned<S, E, D> {
    fn drop(&mut self) {
        let Some(tensor) = self.tensor.take() else {
            return;
        };
        let len = tensor.shape().num_elements();
        if let Ok(tensor) = D::reshape(tensor, (len,)) {
            self.pool.put_tensor(tensor);
        }
    }
}

impl<S: Shape, E: Dtype, D: Pooling<E>> PooledTensor<S, E, D> {
    /// Elements that hold anything, from the pool.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    pub fn take(dev: &D, shape: S) -> Result<Self> {
        let tensor = dev.take_tensor(shape.num_elements())?;
        let owned = Owned {
            tensor: Some(D::reshape(tensor, shape)?),
            pool: dev.clone(),
        };
        Ok(Self {
            memory: Memory::Pool(Rc::new(owned)),
            dev: dev.clone(),
        })
    }

    /// Zeros of dfdx's: for what is returned to the caller at once.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    pub fn zeros(dev: &D, shape: S) -> Result<Self> {
        dev.try_zeros_like(&shape)
            .map(Self::from_dfdx)
            .map_err(Error::device)
    }

    /// One of dfdx's.
    pub fn from_dfdx(tensor: Tensor<S, E, D>) -> Self {
        Self {
            dev: tensor.device().clone(),
            memory: Memory::Dfdx(tensor),
        }
    }

    /// The network's device.
    pub fn device(&self) -> &D {
        &self.dev
    }

    fn tensor_mut(&mut self) -> &mut Tensor<S, E, D> {
        match &mut self.memory {
            Memory::Dfdx(tensor) => tensor,
            Memory::Pool(shared) => Rc::get_mut(shared)
                .and_then(|owned| owned.tensor.as_mut())
                .expect("just taken, not shared"),
        }
    }

    /// Its elements.
    ///
    /// # Errors
    /// [`Error::Device`] if a CUDA tensor's address cannot be read; on the CPU none, as it is contiguous.
    pub fn view(&self) -> Result<View<'_, E, D>>
    where
        D: Views<E>,
    {
        D::view_contiguous("hidden tensor", self)
    }

    /// Its elements, to write: of one that has just been taken.
    ///
    /// # Panics
    /// If another holds it.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub fn view_mut(&mut self) -> Result<ViewMut<'_, E, D>>
    where
        D: Views<E>,
    {
        D::view_new("hidden tensor", self.tensor_mut())
    }

    /// The tensor, for the caller: a copy if it is the pool's.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    pub fn into_tensor(self) -> Result<Tensor<S, E, D>> {
        match self.memory {
            Memory::Dfdx(tensor) => Ok(tensor),
            Memory::Pool(_) => {
                let copy = self.dev.try_zeros_like(self.shape());
                let mut copy = copy.map_err(Error::device)?;
                D::copy_elements(&self, &mut copy)?;
                Ok(copy)
            }
        }
    }
}

impl<S: Shape, E: Dtype, D: Pooling<E>> Deref for PooledTensor<S, E, D> {
    type Target = Tensor<S, E, D>;
    fn deref(&self) -> &Self::Target {
        match &self.memory {
            Memory::Dfdx(tensor) => tensor,
            Memory::Pool(shared) => shared.tensor.as_ref().expect("given back by drop alone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::*;

    // Sizes that no other test of this process uses.
    type Row = (usize,);

    fn take(dev: &Cpu, len: usize) -> PooledTensor<Row, f64, Cpu> {
        PooledTensor::take(dev, (len,)).unwrap()
    }

    fn place(tensor: &Tensor<Row, f64, Cpu>) -> *const f64 {
        &tensor[[0]]
    }

    #[test]
    fn the_last_holder_gives_the_memory_back() {
        let dev = Cpu::default();
        let first = take(&dev, 70_001);
        let at = place(&first);
        let second = first.clone();
        drop(first);
        assert_ne!(place(&take(&dev, 70_001)), at, "still held");
        drop(second);
        let mut again = take(&dev, 70_001);
        assert_eq!(place(&again), at);
        // Not a copy, though it is written.
        again.tensor_mut()[[3]] = 1.0;
        assert_eq!(place(&again), at);
    }

    #[test]
    fn the_caller_gets_a_copy_of_the_pools_and_dfdxs_own() {
        let dev = Cpu::default();
        let mut inner = take(&dev, 70_002);
        inner.tensor_mut()[[1]] = 2.0;
        let at = place(&inner);
        let left = inner.into_tensor().unwrap();
        assert_ne!(place(&left), at);
        assert_eq!(left[[1]], 2.0);
        assert_eq!(place(&take(&dev, 70_002)), at);

        let fresh = PooledTensor::<Row, f64, Cpu>::zeros(&dev, (70_003,)).unwrap();
        let at = place(&fresh);
        let left = fresh.into_tensor().unwrap();
        assert_eq!(place(&left), at);
        drop(PooledTensor::from_dfdx(left.clone()));
        assert_ne!(place(&take(&dev, 70_003)), at);
    }
}
