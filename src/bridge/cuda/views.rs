//! Views of dfdx's CUDA storage: addresses.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

use cudarc::driver::{DevicePtr, DeviceSlice};
use dfdx::dtypes::Dtype;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Cuda, Storage, Tensor, ZerosTensor};
use dfdx::tensor_ops::{Device, ReshapeTo};

use super::address::{place, Place};
use super::start::{start, unreadable};
use crate::bridge::cuda::calls::{Slice, SliceMut};
use crate::bridge::view::Views;
use crate::error::{Error, Result};

/// Where the elements of a tensor are that is known to be contiguous.
fn place_of<S: Shape, E: Dtype>(op: &'static str, tensor: &Tensor<S, E, Cuda>) -> Result<Place> {
    let place = place(tensor).ok_or_else(unreadable)?;
    match place.len == tensor.shape().num_elements() {
        true => Ok(place),
        false => Err(layout(op, tensor.shape())),
    }
}

fn layout(op: &'static str, shape: &impl Shape) -> Error {
    Error::Shape {
        op,
        what: "layout of the tensor",
        expected: "contiguous".into(),
        found: format!(
            "a permuted or broadcast view of shape {:?}",
            shape.concrete()
        ),
    }
}

/// Copies a tensor's memory if another tensor shares it.
///
/// dfdx does so where it writes to a tensor. Of all that writes, x = a x + b y alone asks for a number, a, between
/// that and its kernel, a pass over the memory: asked, it is told to stop.
fn unshare<S: Shape, E: Dtype>(
    tensor: &mut Tensor<S, E, Cuda>,
    like_it: &Tensor<S, E, Cuda>,
) -> Result<()>
where
    Cuda: Device<E>,
{
    // A panic that aborts the program cannot stop it: x = 1 x + 0 y.
    if cfg!(not(panic = "unwind")) {
        return tensor.try_axpy(1.0, like_it, 0.0).map_err(Error::device);
    }
    until_stopped(&mut || {
        let written = tensor.try_axpy(Stop, like_it, 0.0);
        written.map_err(Error::device)
    })
}

/// A number that nobody gets to see.
struct Stop;

#[allow(clippy::from_over_into)] // One call less to unwind.
impl Into<f64> for Stop {
    fn into(self) -> f64 {
        // Not a panic that is printed.
        resume_unwind(Box::new(self))
    }
}

/// Calls `f`, which may ask for the number. Not generic: generic code is compiled with the crate that uses it, and takes
/// longer to unwind if that is not optimised.
fn until_stopped(f: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Err(panic) if !panic.is::<Stop>() => resume_unwind(panic),
        found => found.unwrap_or(Ok(())),
    }
}

macro_rules! cuda_views {
    ($($E:ty, $ZEROS:ident);*) => {$(
        thread_local! {
            /// Zeros by device and number.
            static $ZEROS: RefCell<BTreeMap<(i32, usize), Tensor<(usize,), $E, Cuda>>> =
                const { RefCell::new(BTreeMap::new()) };
        }

        impl Views<$E> for Cuda {
            type View<'a> = Slice<'a, $E>;
            type ViewMut<'a> = SliceMut<'a, $E>;

            fn view<'a, S: Shape>(
                op: &'static str,
                tensor: &'a Tensor<S, $E, Self>,
            ) -> Result<Slice<'a, $E>> {
                let found = place_of(op, tensor)?;
                // The strides cannot be seen. dfdx hands a contiguous tensor on as it is, and copies others.
                let contiguous = tensor.clone().try_contiguous().map_err(Error::device)?;
                match place(&contiguous) == Some(found) {
                    true => Ok(Slice::new(found.address, found.len, found.device)),
                    false => Err(layout(op, tensor.shape())),
                }
            }

            /// Whether another tensor shares the memory cannot be seen: dfdx [sees to it](unshare) that none does.
            fn view_mut<'a, S: Shape>(
                op: &'static str,
                tensor: &'a mut Tensor<S, $E, Self>,
            ) -> Result<SliceMut<'a, $E>> {
                Self::view(op, tensor)?;
                let len = tensor.shape().num_elements();
                let device = start(tensor.device())?;
                let known = $ZEROS.with_borrow(|zeros| zeros.get(&(device, len)).cloned());
                let zeros = match known {
                    Some(zeros) => zeros,
                    None => {
                        let zeros = tensor.device().try_zeros_like(&(len,));
                        let zeros: Tensor<(usize,), $E, Self> = zeros.map_err(Error::device)?;
                        let kept = zeros.clone();
                        $ZEROS.with_borrow_mut(|zeros| zeros.insert((device, len), kept));
                        zeros
                    }
                };
                let zeros = zeros.try_reshape_like(tensor.shape()).map_err(Error::device)?;
                unshare(tensor, &zeros)?;
                Self::view_new(op, tensor)
            }

            fn view_contiguous<'a, S: Shape>(
                op: &'static str,
                tensor: &'a Tensor<S, $E, Self>,
            ) -> Result<Slice<'a, $E>> {
                let place = place_of(op, tensor)?;
                Ok(Slice::new(place.address, place.len, place.device))
            }

            fn view_new<'a, S: Shape>(
                op: &'static str,
                tensor: &'a mut Tensor<S, $E, Self>,
            ) -> Result<SliceMut<'a, $E>> {
                let place = place_of(op, tensor)?;
                Ok(SliceMut::new(place.address, place.len, place.device))
            }

            fn buffer(buffer: &<Self as Storage<$E>>::Vec) -> Slice<'_, $E> {
                Slice::new(*buffer.device_ptr(), buffer.len(), *buffer.device().cu_device())
            }

            fn buffer_mut(buffer: &mut <Self as Storage<$E>>::Vec) -> SliceMut<'_, $E> {
                SliceMut::new(*buffer.device_ptr(), buffer.len(), *buffer.device().cu_device())
            }

            unsafe fn extended<'a>(view: SliceMut<'_, $E>) -> SliceMut<'a, $E> {
                SliceMut::new(view.shared().address(), view.len(), view.device())
            }
        }
    )*};
}
cuda_views!(f32, F32_ZEROS; f64, F64_ZEROS);
