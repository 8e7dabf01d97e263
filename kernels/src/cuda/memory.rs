//! Memory of a device, as kernels see it.

use std::marker::PhantomData;
use std::ops::Range;

use super::context::{context, failed};
use crate::args::conv2d::KeptGrad;
use crate::error::{Error, Result};

/// Elements on a device, to read: their address, which only kernels follow.
#[derive(Debug)]
pub struct Slice<'a, E> {
    pub(super) address: u64,
    len: usize,
    device: i32,
    memory: PhantomData<&'a E>,
}

impl<E> Clone for Slice<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Slice<'_, E> {}

/// Elements on a device, to write.
#[derive(Debug)]
pub struct SliceMut<'a, E>(Slice<'a, E>);

impl<'a, E> Slice<'a, E> {
    /// The `len` elements at `address` of `device`, which its owner keeps for 'a.
    pub fn new(address: u64, len: usize, device: i32) -> Self {
        Self {
            address,
            len,
            device,
            memory: PhantomData,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it begins.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Whose memory it is.
    pub fn device(&self) -> i32 {
        self.device
    }

    /// Some of them.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {}",
            self.len
        );
        Self {
            address: self.address + (range.start * size_of::<E>()) as u64,
            len: range.len(),
            ..*self
        }
    }
}

impl<'a, E> SliceMut<'a, E> {
    /// As [`Slice::new`], of memory that its owner lets nobody else write.
    pub fn new(address: u64, len: usize, device: i32) -> Self {
        Self(Slice::new(address, len, device))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose memory it is.
    pub fn device(&self) -> i32 {
        self.0.device
    }

    /// The same, to read.
    pub fn shared(&self) -> Slice<'_, E> {
        self.0
    }

    /// Some of them.
    ///
    /// # Panics
    /// As [`Slice::part`].
    pub fn part_mut(&mut self, range: Range<usize>) -> SliceMut<'_, E> {
        SliceMut(self.0.part(range))
    }

    /// The first `at`, and the others.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn split_at(&mut self, at: usize) -> (SliceMut<'_, E>, SliceMut<'_, E>) {
        (
            SliceMut(self.0.part(0..at)),
            SliceMut(self.0.part(at..self.len())),
        )
    }
}

impl<V> KeptGrad<V, Slice<'_, u32>> {
    /// How many of the `c_out` channels are kept. Of a convolution's gradient memory may have further ones, zeros.
    pub fn channels(&self, c_out: usize) -> usize {
        self.kept.map_or(c_out, |kept| kept.len())
    }
}

impl<'a> Slice<'a, f32> {
    /// Half as many f64 at the same place, which has to be a multiple of their size.
    pub fn doubles(&self) -> Slice<'a, f64> {
        Slice::new(self.address, self.len / 2, self.device)
    }

    /// As many `unsigned` at the same place.
    pub fn words(&self) -> Slice<'a, u32> {
        Slice::new(self.address, self.len, self.device)
    }
}

impl<'a> SliceMut<'a, f32> {
    /// As [`Slice::doubles`].
    pub fn doubles(self) -> SliceMut<'a, f64> {
        SliceMut(self.0.doubles())
    }

    /// As [`Slice::words`].
    pub fn words(self) -> SliceMut<'a, u32> {
        SliceMut(self.0.words())
    }
}

/// Calls `f` with `len` elements of `device` that hold anything. What one call leaves there the next one
/// overwrites; calls do not nest.
///
/// # Errors
/// Those of `f`; [`Error::Device`](crate::Error::Device) if memory runs out.
pub fn with_workspace<R, F: From<Error>>(
    device: i32,
    len: usize,
    f: impl FnOnce(SliceMut<'_, f32>) -> Result<R, F>,
) -> Result<R, F> {
    context(device)?.with_workspace(len, |address| f(SliceMut::new(address, len, device)))
}

/// Calls `f` with `len` numbers of `device` that are zeros, and that its kernels leave as zeros.
///
/// # Errors
/// Those of `f`; [`Error::Device`](crate::Error::Device) if memory runs out.
pub fn with_counters<R, F: From<Error>>(
    device: i32,
    len: usize,
    f: impl FnOnce(SliceMut<'_, u32>) -> Result<R, F>,
) -> Result<R, F> {
    context(device)?.with_counters(len, |address| f(SliceMut::new(address, len, device)))
}

/// Sees to it that the next [`with_workspace`] of so many elements, or fewer, has its memory.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if memory runs out.
pub fn reserve_workspace(device: i32, len: usize) -> Result<()> {
    context(device)?.reserve_workspace(len)
}

/// The elements, in the host's memory, once every kernel before has run.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub fn download<E: Copy + Default>(from: Slice<'_, E>) -> Result<Vec<E>> {
    let context = context(from.device)?;
    let mut host = vec![E::default(); from.len];
    // SAFETY: the owner keeps `len` elements at the address for the slice's lifetime; the copy waits for
    // the kernels before it, which are on the same stream.
    let copied = unsafe { context.copy_to_host(&mut host, from.address) };
    copied.map_err(failed)?;
    Ok(host)
}
