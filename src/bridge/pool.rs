//! Pools of memory that one operation frees and another takes, in the same step or the next.
//!
//! An operation overwrites its whole output, so any memory of the right size will do; dfdx would
//! zero it first, on one thread, and the system would map it anew. What a pool hands out is owned by
//! a [`Buffer`](super::Buffer) (a gradient) or a [`PooledTensor`](super::PooledTensor) (an
//! activation) and comes back when that is dropped. Nothing else comes in, and dfdx's own cache of
//! freed tensors sees none of it: on the CPU, pooled memory belongs to a device whose cache is off.

mod kept;

use std::sync::{LazyLock, Mutex, PoisonError};

use dfdx::dtypes::Dtype;
use dfdx::shapes::Shape;
use dfdx::tensor::{Cpu, Storage, Tensor, ZerosTensor};
use dfdx::tensor_ops::ReshapeTo;

use self::kept::{Pool, RECENT};
use super::ranking::Ranking;
use super::storage::{as_mut_slice, as_slice};
use crate::error::{Error, Result};
use crate::kernels::cpu::workspace;

/// Smaller buffers are left to the allocator, on the CPU.
const MIN_LEN: usize = 1024;

/// A device that keeps freed memory for what comes next.
pub trait Pooling<E: Dtype>: Storage<E> + ZerosTensor<E> + Ranking {
    /// Calls `f` with the pools that this device's memory comes from.
    fn with_pools<R>(&self, f: impl FnOnce(&mut Pools<E, Self>) -> R) -> R;

    /// The device that pooled memory is allocated on: its cache of freed tensors has to be off.
    fn pool_device(&self) -> Self;

    /// A contiguous tensor in another shape. No data move.
    ///
    /// # Errors
    /// [`Error::Device`] if the shapes have not as many elements.
    fn reshape<S: Shape, To: Shape>(
        tensor: Tensor<S, E, Self>,
        to: To,
    ) -> Result<Tensor<To, E, Self>>;

    /// Writes `from`'s elements to `to`, of the same shape; both are contiguous.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that are not.
    fn copy_elements<S: Shape>(
        from: &Tensor<S, E, Self>,
        to: &mut Tensor<S, E, Self>,
    ) -> Result<()>;

    /// Allocates, if need be after everything that is kept has been freed.
    ///
    /// # Errors
    /// Those of `allocate`.
    fn with_room<V>(&self, allocate: impl Fn() -> Result<V>) -> Result<V> {
        allocate().or_else(|_| {
            let freed = self.with_pools(Pools::clear);
            drop(freed);
            allocate()
        })
    }

    /// A buffer of `len` elements that hold anything.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    fn take_buffer(&self, len: usize) -> Result<Self::Vec> {
        let (buffer, freed) = self.with_pools(|pools| pools.buffers.take(len));
        drop(freed);
        let fresh = || self.pool_device().try_alloc_len(len).map_err(Error::device);
        let buffer = buffer.map_or_else(|| self.with_room(fresh), Ok);
        buffer.inspect_err(|_| self.with_pools(|pools| pools.buffers.forget(len)))
    }

    /// Takes a buffer back.
    fn put_buffer(&self, buffer: Self::Vec) {
        let len = Storage::<E>::len(self, &buffer);
        let freed = self.with_pools(|pools| pools.buffers.put(len, buffer));
        drop(freed);
    }

    /// A tensor of `len` elements that hold anything.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    fn take_tensor(&self, len: usize) -> Result<Tensor<(usize,), E, Self>> {
        let (tensor, freed) = self.with_pools(|pools| pools.tensors.take(len));
        drop(freed);
        let fresh = || {
            let zeros = self.pool_device().try_zeros_like(&(len,));
            zeros.map_err(Error::device)
        };
        let tensor = tensor.map_or_else(|| self.with_room(fresh), Ok);
        tensor.inspect_err(|_| self.with_pools(|pools| pools.tensors.forget(len)))
    }

    /// Takes a tensor back.
    fn put_tensor(&self, tensor: Tensor<(usize,), E, Self>) {
        let len = dfdx::shapes::HasShape::shape(&tensor).0;
        let (freed, ages) = self.with_pools(|pools| {
            let pool = &mut pools.tensors;
            let step = pool.step;
            let freed = pool.put(len, tensor);
            (
                freed,
                pool.step != step && pool.step.is_multiple_of(RECENT as u64),
            )
        });
        drop(freed);
        if ages {
            workspace::free_unused();
        }
    }
}

/// The memory of an element type's operations. dfdx makes a buffer of no tensor, so that there are
/// two pools.
#[derive(Debug)]
pub struct Pools<E: Dtype, D: Storage<E>> {
    /// Gradients.
    buffers: Pool<D::Vec>,
    /// Activations.
    tensors: Pool<Tensor<(usize,), E, D>>,
}

impl<E: Dtype, D: Storage<E>> Pools<E, D> {
    /// Pools of buffers of at least `smallest` elements.
    pub(super) const fn new(smallest: usize) -> Self {
        Self {
            buffers: Pool::new(size_of::<E>(), smallest),
            tensors: Pool::new(size_of::<E>(), smallest),
        }
    }

    /// Takes out all that is kept.
    pub(super) fn clear(&mut self) -> impl Sized {
        (self.buffers.clear(), self.tensors.clear())
    }
}

/// The device of the CPU's pooled memory. Nobody switches its cache on, so that what a pool drops is
/// freed.
static POOL_DEVICE: LazyLock<Cpu> = LazyLock::new(Cpu::default);

macro_rules! cpu_pools {
    ($($E:ty, $POOLS:ident);*) => {$(
        static $POOLS: Mutex<Pools<$E, Cpu>> = Mutex::new(Pools::new(MIN_LEN));

        impl Pooling<$E> for Cpu {
            fn with_pools<R>(&self, f: impl FnOnce(&mut Pools<$E, Cpu>) -> R) -> R {
                // A panic elsewhere leaves the pools whole.
                f(&mut $POOLS.lock().unwrap_or_else(PoisonError::into_inner))
            }

            fn pool_device(&self) -> Cpu {
                POOL_DEVICE.clone()
            }

            fn reshape<S: Shape, To: Shape>(
                tensor: Tensor<S, $E, Cpu>,
                to: To,
            ) -> Result<Tensor<To, $E, Cpu>> {
                tensor.try_reshape_like(&to).map_err(Error::device)
            }

            fn copy_elements<S: Shape>(
                from: &Tensor<S, $E, Cpu>,
                to: &mut Tensor<S, $E, Cpu>,
            ) -> Result<()> {
                as_mut_slice("copy", to)?.copy_from_slice(as_slice("copy", from)?);
                Ok(())
            }
        }
    )*};
}
cpu_pools!(f32, F32_POOLS; f64, F64_POOLS);

/// Frees the memory that is kept for the next step: activations, gradients, and the kernels'
/// workspaces, the CPU's of every thread and a CUDA device's of this one.
///
/// What is kept without it is bounded. For each element type, activations take, with what is in use, at
/// most what the largest of the last 64 steps needed and 64 MiB more, a step being a training step, a
/// batch of an evaluation or a step of sampling; and gradients the same for the last 64 backward passes
/// or parts of them. (Where several networks train at once, a step ends after 16 times the most that
/// was in use at one time has been handed out.) A thread's workspaces are freed if no product has
/// needed one so large for 64 to 128 of a network's steps.
///
/// ```
/// use ssprop::prelude::*;
///
/// let dev = Cpu::default();
/// let net = dev.build_module::<ResNet18<10>, f32>();
/// net.forward(dev.zeros::<Rank4<2, 3, 32, 32>>());
/// drop(net);
/// ssprop::free_buffers();
/// ```
pub fn free_buffers() {
    let cpu = &*POOL_DEVICE;
    let freed32 = Pooling::<f32>::with_pools(cpu, Pools::clear);
    let freed64 = Pooling::<f64>::with_pools(cpu, Pools::clear);
    drop((freed32, freed64));
    workspace::free_all();
    #[cfg(feature = "cuda")]
    super::cuda::free_cuda_buffers();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_whole_from_a_device_without_a_cache() {
        let dev = Cpu::default();
        dfdx::tensor::Cache::enable_cache(&dev);
        // A length that no other test of this process uses.
        let buffer: <Cpu as Storage<f64>>::Vec = dev.take_buffer(54_321).unwrap();
        let place = buffer.as_ptr();
        Pooling::<f64>::put_buffer(&dev, buffer);
        let again: <Cpu as Storage<f64>>::Vec = dev.take_buffer(54_321).unwrap();
        assert_eq!(again.as_ptr(), place);
        // Had it been dropped into the device's cache, this would be it.
        drop(again);
        let other: <Cpu as Storage<f64>>::Vec = dev.try_alloc_len(54_321).unwrap();
        assert_eq!(other.iter().sum::<f64>(), 0.0);
    }
}
