//! What kernels see of a device's memory.

use dfdx::dtypes::Dtype;
use dfdx::shapes::Shape;
use dfdx::tensor::{Storage, Tensor};

use crate::error::Result;

/// A device whose memory kernels see through views: slices on the CPU, addresses on CUDA.
pub trait Views<E: Dtype>: Storage<E> {
    /// Elements to read, in row-major order.
    type View<'a>: Copy;
    /// Elements to write.
    type ViewMut<'a>;

    /// A tensor's elements.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if it is not contiguous; `op` is who asks.
    fn view<'a, S: Shape>(
        op: &'static str,
        tensor: &'a Tensor<S, E, Self>,
    ) -> Result<Self::View<'a>>;

    /// A tensor's elements, to write. The memory is copied first if another tensor shares it.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    fn view_mut<'a, S: Shape>(
        op: &'static str,
        tensor: &'a mut Tensor<S, E, Self>,
    ) -> Result<Self::ViewMut<'a>>;

    /// [`view`](Self::view) of a tensor that is known to be contiguous: an operation's output.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    fn view_contiguous<'a, S: Shape>(
        op: &'static str,
        tensor: &'a Tensor<S, E, Self>,
    ) -> Result<Self::View<'a>> {
        Self::view(op, tensor)
    }

    /// [`view_mut`](Self::view_mut) of a tensor that is known to be contiguous and shared with nobody: one
    /// that has just been made.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    fn view_new<'a, S: Shape>(
        op: &'static str,
        tensor: &'a mut Tensor<S, E, Self>,
    ) -> Result<Self::ViewMut<'a>> {
        Self::view_mut(op, tensor)
    }

    /// A buffer's elements.
    fn buffer(buffer: &Self::Vec) -> Self::View<'_>;

    /// A buffer's elements, to write.
    fn buffer_mut(buffer: &mut Self::Vec) -> Self::ViewMut<'_>;

    /// The same view, for as long as the caller says.
    ///
    /// # Safety
    /// As long the memory stays where it is, and nobody else uses it.
    unsafe fn extended<'a>(view: Self::ViewMut<'_>) -> Self::ViewMut<'a>;
}

/// Elements of `D`'s to read.
pub type View<'a, E, D> = <D as Views<E>>::View<'a>;
/// Elements of `D`'s to write.
pub type ViewMut<'a, E, D> = <D as Views<E>>::ViewMut<'a>;
