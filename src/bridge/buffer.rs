//! A gradient's memory, which goes back where it came from.

use std::ops::{Deref, DerefMut};

use dfdx::dtypes::Dtype;

use super::pool::Pooling;
use crate::error::Result;

/// A device buffer: from the device's pool, to which it returns when it is dropped, or from dfdx.
#[derive(Debug)]
pub struct Buffer<E: Dtype, D: Pooling<E>> {
    /// `None` once it has been given back.
    data: Option<D::Vec>,
    /// `None` for a buffer of dfdx's.
    pool: Option<D>,
}

impl<E: Dtype, D: Pooling<E>> Buffer<E, D> {
    /// `len` elements that hold anything.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    pub fn take(dev: &D, len: usize) -> Result<Self> {
        Ok(Self {
            data: Some(dev.take_buffer(len)?),
            pool: Some(dev.clone()),
        })
    }

    /// One that dfdx has allocated.
    pub fn from_dfdx(data: D::Vec) -> Self {
        Self {
            data: Some(data),
            pool: None,
        }
    }
}

impl<E: Dtype, D: Pooling<E>> Deref for Buffer<E, D> {
    type Target = D::Vec;
    fn deref(&self) -> &D::Vec {
        self.data.as_ref().expect("given back by drop alone")
    }
}

impl<E: Dtype, D: Pooling<E>> DerefMut for Buffer<E, D> {
    fn deref_mut(&mut self) -> &mut D::Vec {
        self.data.as_mut().expect("given back by drop alone")
    }
}

impl<E: Dtype, D: Pooling<E>> Drop for Buffer<E, D> {
    fn drop(&mut self) {
        if let (Some(data), Some(pool)) = (self.data.take(), &self.pool) {
            pool.put_buffer(data);
        }
    }
}
