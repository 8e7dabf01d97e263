//! CUDA tensors' memory, copied to the host and back.

use std::borrow::Cow;

use dfdx::tensor::{Cuda, Storage};

use crate::bridge::cuda::calls::{upload, Slice, SliceMut};
use crate::bridge::host::HostAccess;
use crate::error::{Error, Result};

macro_rules! on_cuda {
    ($($E:ty, $floats:expr, $edit:expr);*) => {$(
        impl HostAccess<$E> for Cuda {
            fn address(view: Slice<'_, $E>) -> usize {
                view.address() as usize
            }

            fn floats(buffer: &<Self as Storage<$E>>::Vec) -> Result<Option<Cow<'_, [f32]>>> {
                let floats: fn(&<Self as Storage<$E>>::Vec) -> Result<Option<Vec<f32>>> = $floats;
                Ok(floats(buffer)?.map(Cow::Owned))
            }

            fn edit_floats(
                buffer: &mut <Self as Storage<$E>>::Vec,
                edit: &mut dyn FnMut(&mut [f32]) -> Result<()>,
            ) -> Result<()> {
                let edit_in: Edit<<Self as Storage<$E>>::Vec> = $edit;
                edit_in(buffer, edit)
            }

            fn write(values: &[$E], to: SliceMut<'_, $E>) -> Result<()> {
                upload(values, &to)
            }

            fn buffer_to_host(&self, buffer: &<Self as Storage<$E>>::Vec) -> Result<Vec<$E>> {
                buffer
                    .device()
                    .dtoh_sync_copy(&**buffer)
                    .map_err(failed)
            }

            fn buffer_from_host(&self, host: &[$E]) -> Result<<Self as Storage<$E>>::Vec> {
                let mut buffer = Storage::<$E>::try_alloc_len(self, host.len()).map_err(Error::device)?;
                let dev = buffer.device();
                dev.htod_sync_copy_into(host, &mut *buffer).map_err(failed)?;
                Ok(buffer)
            }
        }
    )*};
}

/// Changes a buffer's elements on the host.
type Edit<V> = fn(&mut V, &mut dyn FnMut(&mut [f32]) -> Result<()>) -> Result<()>;

fn failed(err: impl std::fmt::Debug) -> Error {
    Error::device(format_args!("CUDA: {err:?}"))
}

on_cuda!(
    f32,
    |buffer| buffer.device().dtoh_sync_copy(&**buffer).map(Some).map_err(failed),
    |buffer, edit| {
        let device = buffer.device();
        let mut host = device.dtoh_sync_copy(&**buffer).map_err(failed)?;
        edit(&mut host)?;
        device.htod_sync_copy_into(&host, &mut **buffer).map_err(failed)
    };
    f64,
    |_| Ok(None),
    |_, _| Ok(())
);
