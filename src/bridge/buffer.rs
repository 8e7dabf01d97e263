//! A gradient's memory, which goes back where it came from.

use dfdx::dtypes::Dtype;

use super::pool::Pooling;
use super::view::{View, ViewMut, Views};
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

    /// How many elements it has.
    pub fn len(&self, dev: &D) -> usize {
        self.data.as_ref().map_or(0, |data| dev.len(data))
    }

    /// One that dfdx has allocated.
    pub fn from_dfdx(data: D::Vec) -> Self {
        Self {
            data: Some(data),
            pool: None,
        }
    }
}

impl<E: Dtype, D: Pooling<E> + Views<E>> Buffer<E, D> {
    /// Its elements.
    pub fn view(&self) -> View<'_, E, D> {
        D::buffer(self.data.as_ref().expect("given back by drop alone"))
    }

    /// Its elements, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_, E, D> {
        D::buffer_mut(self.data.as_mut().expect("given back by drop alone"))
    }
}

impl<E: Dtype, D: Pooling<E>> Drop for Buffer<E, D> {
    fn drop(&mut self) {
        if let (Some(data), Some(pool)) = (self.data.take(), &self.pool) {
            pool.put_buffer(data);
        }
    }
}
