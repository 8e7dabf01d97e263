//! Memory that has been used up serves the next operation, or the next step.
//!
//! dfdx zeroes what it allocates, on one thread. An operation overwrites its whole output, so it
//! can do without, given any memory of the right size. Every backward hook ends with some that
//! nobody needs any more: its output's gradient, a buffer, and often what the forward pass kept for
//! it, a tensor. Buffers can become tensors, but dfdx gives no tensor's buffer away, so that the two
//! are kept apart.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dfdx::shapes::{Dtype, HasShape, Shape};
use dfdx::tensor::{Cpu, Storage, Tensor, TensorFromVec, ZerosTensor};
use dfdx::tensor_ops::ReshapeTo;

use crate::element::Element;
use crate::error::{Error, Result};
use crate::storage::{as_mut_slice, as_slice};

/// A device that hands used buffers on to new tensors.
pub trait Recycle<E: Dtype>: Storage<E> {
    /// A tensor whose elements are anything: for outputs that are overwritten.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    fn alloc_output<S: Shape>(&self, shape: S) -> Result<Tensor<S, E, Self>>;

    /// The same for tensors between operations, whose identity is never asked for: it may be that of
    /// a tensor that was [recycled](Self::recycle_tensor), and their device that one's.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    fn alloc_inner<S: Shape>(&self, shape: S) -> Result<Tensor<S, E, Self>>;

    /// Takes a contiguous tensor that nobody else holds.
    fn recycle_tensor<S: Shape>(&self, tensor: Tensor<S, E, Self>);

    /// A tensor of its own with the same elements.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    fn copy_of<S: Shape>(&self, tensor: &Tensor<S, E, Self>) -> Result<Tensor<S, E, Self>>;

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

/// Buffers by length, each with the time it came in, counted in buffers.
///
/// A buffer that has lain here while many times as many came in as were lately held at once belongs to
/// another network or batch size, and is freed: a step brings each of its buffers in a few times at
/// most.
#[derive(Debug)]
pub struct Pool<V> {
    buffers: BTreeMap<usize, Vec<(usize, V)>>,
    held: usize,
    /// The most that were held at once lately, and in the period before.
    most: [usize; 2],
    time: usize,
    /// When the old ones are freed, and `most` is begun anew.
    next: usize,
}

/// How many times the most that were lately held come in before a buffer is old, beside [`YOUNG`].
const STEPS: usize = 16;
/// A buffer is not old before this many came in.
const YOUNG: usize = 256;

impl<V> Pool<V> {
    const fn new() -> Self {
        Self {
            buffers: BTreeMap::new(),
            held: 0,
            most: [0; 2],
            time: 0,
            next: YOUNG,
        }
    }

    fn take(&mut self, len: usize) -> Option<V> {
        let (_, buffer) = self.buffers.get_mut(&len)?.pop()?;
        self.held -= 1;
        Some(buffer)
    }

    fn put(&mut self, len: usize, buffer: V) {
        if len < MIN_LEN {
            return;
        }
        self.time += 1;
        self.held += 1;
        self.most[0] = self.most[0].max(self.held);
        let same = self.buffers.entry(len).or_default();
        same.push((self.time, buffer));
        if self.time >= self.next {
            let age = STEPS * self.most[0].max(self.most[1]) + YOUNG;
            let oldest = self.time.saturating_sub(age);
            self.buffers.retain(|_, same| {
                same.retain(|&(since, _)| since >= oldest);
                !same.is_empty()
            });
            self.held = self.buffers.values().map(Vec::len).sum();
            self.most = [self.held, self.most[0]];
            self.next = self.time + age / 4;
        }
    }
}

/// What an element type's operations hand on.
#[derive(Debug)]
pub struct Pools<E: Dtype> {
    /// Gradients.
    buffers: Pool<Vec<E>>,
    /// Activations, in one dimension.
    tensors: Pool<Tensor<(usize,), E, Cpu>>,
}

impl<E: Dtype> Pools<E> {
    const fn new() -> Self {
        Self {
            buffers: Pool::new(),
            tensors: Pool::new(),
        }
    }
}

static F32: Mutex<Pools<f32>> = Mutex::new(Pools::new());
static F64: Mutex<Pools<f64>> = Mutex::new(Pools::new());

/// Elements that have a pool.
pub trait Pooled: Dtype {
    /// The process's pools, to be locked by [`lock`](Self::lock).
    fn pools() -> &'static Mutex<Pools<Self>>;

    /// The process's pools.
    fn lock() -> MutexGuard<'static, Pools<Self>> {
        // A panic elsewhere leaves the pools whole: what they hold is anything anyway.
        Self::pools().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of `len` elements that hold anything, if the pool has one.
    fn take_buffer(len: usize) -> Option<Vec<Self>> {
        Self::lock().buffers.take(len)
    }

    /// Gives a buffer to the pool.
    fn put_buffer(buffer: Vec<Self>) {
        Self::lock().buffers.put(buffer.len(), buffer);
    }
}

impl Pooled for f32 {
    fn pools() -> &'static Mutex<Pools<f32>> {
        &F32
    }
}

impl Pooled for f64 {
    fn pools() -> &'static Mutex<Pools<f64>> {
        &F64
    }
}

/// Frees the CPU memory that is kept for the next training step.
///
/// It is as large as a step's gradients and activations, and is kept for the life of the process
/// otherwise.
pub fn free_buffers() {
    *f32::lock() = Pools::new();
    *f64::lock() = Pools::new();
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

    fn alloc_inner<S: Shape>(&self, shape: S) -> Result<Tensor<S, E, Self>> {
        // The lock is free again before the tensor is made.
        let tensor = E::lock().tensors.take(shape.num_elements());
        match tensor {
            // No data move: it is contiguous.
            Some(tensor) => tensor.try_reshape_like(&shape).map_err(Error::device),
            None => self.alloc_output(shape),
        }
    }

    fn recycle_tensor<S: Shape>(&self, tensor: Tensor<S, E, Self>) {
        let len = tensor.shape().num_elements();
        // No data move, and so no error: it is contiguous.
        if let Ok(tensor) = tensor.try_reshape_like(&(len,)) {
            E::lock().tensors.put(len, tensor);
        }
    }

    fn copy_of<S: Shape>(&self, tensor: &Tensor<S, E, Self>) -> Result<Tensor<S, E, Self>> {
        let mut copy = self.alloc_output(*tensor.shape())?;
        let from = as_slice("copy", tensor)?;
        as_mut_slice("copy", &mut copy)?.copy_from_slice(from);
        Ok(copy)
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

    fn alloc_inner<S: Shape>(&self, shape: S) -> Result<Tensor<S, E, Self>> {
        self.alloc_output(shape)
    }

    fn recycle_tensor<S: Shape>(&self, _: Tensor<S, E, Self>) {}

    fn copy_of<S: Shape>(&self, tensor: &Tensor<S, E, Self>) -> Result<Tensor<S, E, Self>> {
        let mut copy = self.alloc_output(*tensor.shape())?;
        copy.copy_from(&tensor.as_vec());
        Ok(copy)
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
        let mut pool = Pool::<Vec<f32>>::new();
        for _ in 0..10 {
            pool.put(2000, vec![0.0; 2000]);
        }
        for _ in 0..200 {
            // A step of another size: ten out, ten in.
            let step: Vec<_> = (0..10)
                .map(|_| pool.take(3000).unwrap_or_else(|| vec![0.0; 3000]))
                .collect();
            step.into_iter().for_each(|buffer| pool.put(3000, buffer));
        }
        assert!(pool.take(2000).is_none());
        for _ in 0..10 {
            assert!(pool.take(3000).is_some());
        }
        pool.put(MIN_LEN - 1, vec![0.0; MIN_LEN - 1]);
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
