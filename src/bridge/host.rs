//! A device's memory, as the host gets at it.

use std::borrow::Cow;

use dfdx::dtypes::Dtype;
use dfdx::tensor::{Cpu, Storage};

use super::view::{View, ViewMut, Views};
use crate::error::{Error, Result};

/// A device whose buffers the host can read and write.
pub trait HostAccess<E: Dtype>: Views<E> {
    /// Where a view begins. No two tensors with elements begin at the same address.
    fn address(view: View<'_, E, Self>) -> usize;

    /// A buffer's elements, if they are `f32`: a copy if the host cannot see them.
    ///
    /// # Errors
    /// Those of the device.
    fn floats(buffer: &Self::Vec) -> Result<Option<Cow<'_, [f32]>>>;

    /// Writes `values` to a view. They may be changed at once, though the device may get them later.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many; those of the device.
    fn write(values: &[E], to: ViewMut<'_, E, Self>) -> Result<()>;

    /// A copy of the buffer in the host's memory.
    ///
    /// # Errors
    /// Those of the device.
    fn buffer_to_host(&self, buffer: &Self::Vec) -> Result<Vec<E>>;

    /// A buffer with the elements of `host`.
    ///
    /// # Errors
    /// Those of the device.
    fn buffer_from_host(&self, host: &[E]) -> Result<Self::Vec>;

    /// Has `edit` change a buffer's elements, which have to be `f32` ([`floats`](Self::floats)).
    ///
    /// # Errors
    /// Those of `edit` and of the device.
    fn edit_floats(
        buffer: &mut Self::Vec,
        edit: &mut dyn FnMut(&mut [f32]) -> Result<()>,
    ) -> Result<()>;
}

macro_rules! on_cpu {
    ($($E:ty, $floats:expr, $floats_mut:expr);*) => {$(
        impl HostAccess<$E> for Cpu {
            fn address(view: &[$E]) -> usize {
                view.as_ptr() as usize
            }

            fn floats(buffer: &<Self as Storage<$E>>::Vec) -> Result<Option<Cow<'_, [f32]>>> {
                let floats: fn(&[$E]) -> Option<Cow<'_, [f32]>> = $floats;
                Ok(floats(buffer))
            }

            fn write(values: &[$E], to: &mut [$E]) -> Result<()> {
                if values.len() != to.len() {
                    return Err(Error::shape("upload", "elements", to.len(), values.len()));
                }
                to.copy_from_slice(values);
                Ok(())
            }

            fn buffer_to_host(&self, buffer: &<Self as Storage<$E>>::Vec) -> Result<Vec<$E>> {
                Ok(buffer.to_vec())
            }

            fn buffer_from_host(&self, host: &[$E]) -> Result<<Self as Storage<$E>>::Vec> {
                let mut buffer =
                    Storage::<$E>::try_alloc_len(self, host.len()).map_err(Error::device)?;
                buffer.copy_from_slice(host);
                Ok(buffer)
            }

            fn edit_floats(
                buffer: &mut <Self as Storage<$E>>::Vec,
                edit: &mut dyn FnMut(&mut [f32]) -> Result<()>,
            ) -> Result<()> {
                let floats_mut: fn(&mut [$E]) -> Option<&mut [f32]> = $floats_mut;
                floats_mut(buffer).map_or(Ok(()), edit)
            }
        }
    )*};
}
on_cpu!(f32, |floats| Some(Cow::Borrowed(floats)), |floats| Some(floats); f64, |_| None, |_| None);
