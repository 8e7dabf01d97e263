//! Buffers of gradients that have been used up become the next step's activations.
//!
//! dfdx zeroes what it allocates, on one thread. An operation overwrites its whole output, so it
//! can do without, given any buffer of the right size; and every backward hook ends with one, its
//! output's gradient, that nobody needs any more.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use dfdx::shapes::{Dtype, Shape};
use dfdx::tensor::{Cpu, Storage, Tensor, TensorFromVec, ZerosTensor};

use crate::element::Element;
use crate::error::{Error, Result};

/// A device that hands used buffers on to new tensors.
pub trait Recycle<E: Dtype>: Storage<E> {
    /// A tensor whose elements are anything: for outputs that are overwritten.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    fn alloc_output<S: Shape>(&self, shape: S) -> Result<Tensor<S, E, Self>>;

    /// A buffer of `len` elements that are anything: for gradients that are overwritten.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    fn alloc_buffer(&self, len: usize) -> Result<Self::Vec>;

    /// Takes a buffer that nobody needs any more.
    fn recycle(&self, buffer: Self::Vec);
}

/// Smaller buffers are not worth keeping.
const MIN_LEN: usize = 1024;

/// Buffers by length, each with the time it came in.
///
/// A step brings in as many as it takes out, so a buffer that has not been asked for while twice as
/// many came in as are held belongs to another network or batch size, and is freed.
#[derive(Debug)]
pub struct Pool<E> {
    buffers: BTreeMap<usize, Vec<(usize, Vec<E>)>>,
    held: usize,
    time: usize,
}

impl<E> Pool<E> {
    const fn new() -> Self {
        Self {
            buffers: BTreeMap::new(),
            held: 0,
            time: 0,
        }
    }

    fn take(&mut self, len: usize) -> Option<Vec<E>> {
        let (_, buffer) = self.buffers.get_mut(&len)?.pop()?;
        self.held -= 1;
        Some(buffer)
    }

    fn put(&mut self, buffer: Vec<E>) {
        if buffer.len() < MIN_LEN {
            return;
        }
        self.time += 1;
        self.held += 1;
        let same = self.buffers.entry(buffer.len()).or_default();
        same.push((self.time, buffer));
        if self.time.is_multiple_of(32) {
            let oldest = self.time.saturating_sub(2 * self.held + 32);
            self.buffers.retain(|_, same| {
                same.retain(|&(since, _)| since >= oldest);
                !same.is_empty()
            });
            self.held = self.buffers.values().map(Vec::len).sum();
        }
    }
}

static F32: Mutex<Pool<f32>> = Mutex::new(Pool::new());
static F64: Mutex<Pool<f64>> = Mutex::new(Pool::new());

/// Elements that have a pool.
pub trait Pooled: Sized + 'static {
    /// The process's pool of buffers.
    fn pool() -> &'static Mutex<Pool<Self>>;

    /// A buffer of `len` elements that hold anything, if the pool has one.
    fn take_buffer(len: usize) -> Option<Vec<Self>> {
        // A panic elsewhere leaves the pool whole: buffers hold anything anyway.
        let mut pool = Self::pool().lock().unwrap_or_else(PoisonError::into_inner);
        pool.take(len)
    }

    /// Gives a buffer to the pool.
    fn put_buffer(buffer: Vec<Self>) {
        let mut pool = Self::pool().lock().unwrap_or_else(PoisonError::into_inner);
        pool.put(buffer);
    }
}

impl Pooled for f32 {
    fn pool() -> &'static Mutex<Pool<f32>> {
        &F32
    }
}

impl Pooled for f64 {
    fn pool() -> &'static Mutex<Pool<f64>> {
        &F64
    }
}

/// Frees the CPU buffers that are kept for the next training step.
///
/// They are as large as a step's gradients, and are kept for the life of the process otherwise.
pub fn free_buffers() {
    *F32.lock().unwrap_or_else(PoisonError::into_inner) = Pool::new();
    *F64.lock().unwrap_or_else(PoisonError::into_inner) = Pool::new();
}

impl<E: Element> Recycle<E> for Cpu {
    fn alloc_output<S: Shape>(&self, shape: S) -> Result<Tensor<S, E, Self>> {
        let len = shape.num_elements();
        match E::take_buffer(len) {
            Some(data) => self.try_tensor_from_vec(data, shape).map_err(Error::device),
            // Through the device, whose cache (if it is on) gets the tensor's buffer back.
            None => self.try_zeros_like(&shape).map_err(Error::device),
        }
    }

    fn alloc_buffer(&self, len: usize) -> Result<<Self as Storage<E>>::Vec> {
        match E::take_buffer(len) {
            Some(data) => {
                let mut buffer = Storage::<E>::try_alloc_len(self, 0).map_err(Error::device)?;
                *buffer = data;
                Ok(buffer)
            }
            None => Storage::<E>::try_alloc_len(self, len).map_err(Error::device),
        }
    }

    fn recycle(&self, mut buffer: <Self as Storage<E>>::Vec) {
        E::put_buffer(std::mem::take(&mut *buffer));
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

    fn alloc_buffer(&self, len: usize) -> Result<Self::Vec> {
        Storage::<E>::try_alloc_len(self, len).map_err(Error::device)
    }

    fn recycle(&self, _: Self::Vec) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::tensor::Cache;

    #[test]
    fn a_recycled_buffer_is_the_next_output_of_its_size() {
        // Lengths that no other test of this process uses.
        let dev = Cpu::default();
        let buffer: <Cpu as Storage<f64>>::Vec = dev.try_alloc_len(54321).unwrap();
        let place = buffer.as_ptr();
        dev.recycle(buffer);
        let other: Tensor<(usize,), f64, _> = dev.alloc_output((54322,)).unwrap();
        assert_ne!(&other[[0]] as *const f64, place);
        let same: Tensor<(usize,), f64, _> = dev.alloc_output((54321,)).unwrap();
        assert_eq!(&same[[0]] as *const f64, place);
    }

    #[test]
    fn buffers_of_sizes_that_are_gone_are_freed() {
        let mut pool = Pool::<f32>::new();
        for _ in 0..10 {
            pool.put(vec![0.0; 2000]);
        }
        for _ in 0..20 {
            // A step of another size: ten out, ten in.
            let step: Vec<_> = (0..10)
                .map(|_| pool.take(3000).unwrap_or_else(|| vec![0.0; 3000]))
                .collect();
            step.into_iter().for_each(|buffer| pool.put(buffer));
        }
        assert!(pool.take(2000).is_none());
        for _ in 0..10 {
            assert!(pool.take(3000).is_some());
        }
        pool.put(vec![0.0; MIN_LEN - 1]);
        assert!(pool.take(MIN_LEN - 1).is_none());
        assert_eq!(pool.held, 0);
    }

    #[test]
    fn outputs_do_not_pile_up_in_the_devices_cache() {
        let dev = Cpu::default();
        dev.enable_cache();
        let first: Tensor<(usize,), f64, _> = dev.alloc_output((65432,)).unwrap();
        let place = &first[[0]] as *const f64;
        drop(first);
        let second: Tensor<(usize,), f64, _> = dev.alloc_output((65432,)).unwrap();
        assert_eq!(&second[[0]] as *const f64, place);
    }
}
