//! Buffers of gradients that have been used up become the next step's activations.
//!
//! dfdx zeroes what it allocates, on one thread. An operation overwrites its whole output, so it
//! can do without, given any buffer of the right size; and every backward hook ends with one, its
//! output's gradient, that nobody needs any more.

use std::cell::RefCell;
use std::collections::HashMap;

use dfdx::shapes::{Dtype, Shape};
use dfdx::tensor::{Cpu, Storage, Tensor, TensorFromVec};

use crate::element::Element;
use crate::error::{Error, Result};

/// A device that hands used buffers on to new tensors.
pub trait Recycle<E: Dtype>: Storage<E> {
    /// A tensor whose elements are anything: for outputs that are overwritten.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    fn alloc_output<S: Shape>(&self, shape: S) -> Result<Tensor<S, E, Self>>;

    /// Takes a buffer that nobody needs any more.
    fn recycle(&self, buffer: Self::Vec);
}

/// A buffer that has not been asked for while so many others came in is freed: its size belongs to
/// another network or batch. (ResNet-50 brings in about 110 a step.)
const MAX_AGE: u64 = 512;
/// Smaller buffers are not worth keeping.
const MIN_LEN: usize = 1024;

/// Buffers by length, each with the time it came in.
#[derive(Default)]
pub struct Pool<E> {
    buffers: HashMap<usize, Vec<(u64, Vec<E>)>>,
    time: u64,
}

impl<E> Pool<E> {
    /// A buffer of `len` elements, if there is one.
    pub fn take(&mut self, len: usize) -> Option<Vec<E>> {
        self.buffers.get_mut(&len)?.pop().map(|(_, buffer)| buffer)
    }

    /// Keeps a buffer for later.
    pub fn put(&mut self, buffer: Vec<E>) {
        if buffer.len() < MIN_LEN {
            return;
        }
        self.time += 1;
        let time = self.time;
        if time.is_multiple_of(MAX_AGE / 4) {
            self.buffers.retain(|_, same| {
                same.retain(|(since, _)| time - since < MAX_AGE);
                !same.is_empty()
            });
        }
        self.buffers
            .entry(buffer.len())
            .or_default()
            .push((time, buffer));
    }
}

thread_local! {
    static F32: RefCell<Pool<f32>> = RefCell::default();
    static F64: RefCell<Pool<f64>> = RefCell::default();
}

/// Elements that have a pool in every thread.
pub trait Pooled: Sized + 'static {
    /// Runs `f` on this thread's pool; `None` while the thread ends.
    fn with_pool<R>(f: impl FnOnce(&mut Pool<Self>) -> R) -> Option<R>;
}

impl Pooled for f32 {
    fn with_pool<R>(f: impl FnOnce(&mut Pool<f32>) -> R) -> Option<R> {
        F32.try_with(|pool| f(&mut pool.borrow_mut())).ok()
    }
}

impl Pooled for f64 {
    fn with_pool<R>(f: impl FnOnce(&mut Pool<f64>) -> R) -> Option<R> {
        F64.try_with(|pool| f(&mut pool.borrow_mut())).ok()
    }
}

impl<E: Element> Recycle<E> for Cpu {
    fn alloc_output<S: Shape>(&self, shape: S) -> Result<Tensor<S, E, Self>> {
        let len = shape.num_elements();
        let data = match E::with_pool(|pool| pool.take(len)).flatten() {
            Some(data) => data,
            None => {
                let mut data = Vec::new();
                data.try_reserve_exact(len)
                    .map_err(|_| Error::device(dfdx::tensor::CpuError::OutOfMemory))?;
                data.resize(len, E::zero());
                data
            }
        };
        self.try_tensor_from_vec(data, shape).map_err(Error::device)
    }

    fn recycle(&self, mut buffer: <Self as Storage<E>>::Vec) {
        let data = std::mem::take(&mut *buffer);
        E::with_pool(|pool| pool.put(data));
    }
}

#[cfg(feature = "cuda")]
impl<E: Dtype> Recycle<E> for dfdx::tensor::Cuda
where
    Self: dfdx::tensor::ZerosTensor<E>,
{
    fn alloc_output<S: Shape>(&self, shape: S) -> Result<Tensor<S, E, Self>> {
        dfdx::tensor::ZerosTensor::try_zeros_like(self, &shape).map_err(Error::device)
    }

    fn recycle(&self, _: Self::Vec) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_buffer_is_the_next_output_of_its_size() {
        let dev = Cpu::default();
        let buffer: <Cpu as Storage<f32>>::Vec = dev.try_alloc_len(5000).unwrap();
        let place = buffer.as_ptr();
        dev.recycle(buffer);
        let other: Tensor<(usize,), f32, _> = dev.alloc_output((5001,)).unwrap();
        assert_ne!(&other[[0]] as *const f32, place);
        let same: Tensor<(usize,), f32, _> = dev.alloc_output((5000,)).unwrap();
        assert_eq!(&same[[0]] as *const f32, place);
    }

    #[test]
    fn buffers_of_sizes_that_are_gone_are_freed() {
        let mut pool = Pool::<f32>::default();
        pool.put(vec![0.0; 2000]);
        for _ in 0..2 * MAX_AGE {
            let buffer = pool.take(3000).unwrap_or_else(|| vec![0.0; 3000]);
            pool.put(buffer);
        }
        assert!(pool.take(2000).is_none());
        assert!(pool.take(3000).is_some());
        pool.put(vec![0.0; MIN_LEN - 1]);
        assert!(pool.take(MIN_LEN - 1).is_none());
    }
}
