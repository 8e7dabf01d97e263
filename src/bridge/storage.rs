//! Views of dfdx's CPU storage.
//!
//! dfdx keeps a tensor's storage to itself and hands out references to single elements. Kernels
//! need slices, so this file makes them. (Sound under Tree Borrows; Stacked Borrows would forbid to
//! go from one element's reference to its neighbours, but dfdx offers no other way without a copy.)

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Shape, Unit};
use dfdx::tensor::{Cpu, Storage, Tensor};

use super::view::Views;
use crate::error::{Error, Result};

/// The elements of a CPU tensor in row-major order, without a copy.
///
/// # Errors
/// [`Error::Shape`] if the tensor is not contiguous (permuted or broadcast): call
/// dfdx's `realize` first.
pub fn as_slice<'a, S: Shape, E: Unit, T>(
    op: &'static str,
    tensor: &'a Tensor<S, E, Cpu, T>,
) -> Result<&'a [E]> {
    // Asked for once: a dimension that somebody else has defined may answer otherwise next time.
    let sizes = dfdx::shapes::HasShape::shape(tensor).concrete();
    let mut index = S::Concrete::default();
    let mut len: usize = 1;
    for axis in 0..S::NUM_DIMS {
        index[axis] = 0;
        len = len.saturating_mul(sizes[axis]);
    }
    if len == 0 {
        return Ok(&[]);
    }
    let first: *const E = &tensor[index];
    let elements_from_first = |index| {
        let at: *const E = &tensor[index];
        (at as usize).wrapping_sub(first as usize) / size_of::<E>()
    };
    // One step along an axis has to move by the row-major stride, for every axis that has a step,
    // and the last element has to lie where it lies then.
    let (mut contiguous, mut stride, mut last) = (true, 1, index);
    for axis in (0..S::NUM_DIMS).rev() {
        if sizes[axis] > 1 {
            index[axis] = 1;
            contiguous &= elements_from_first(index) == stride;
            index[axis] = 0;
        }
        stride *= sizes[axis];
        last[axis] = sizes[axis] - 1;
    }
    if !contiguous || elements_from_first(last) != len - 1 {
        return Err(Error::Shape {
            op,
            what: "layout of the tensor",
            expected: "contiguous".into(),
            found: format!("a permuted or broadcast view of shape {sizes:?}"),
        });
    }
    // SAFETY: dfdx's index has checked that the element that lies len - 1 elements behind the first
    // is inside the one Vec that the tensor keeps alive and, while it is borrowed, unchanged for 'a;
    // so all between them are. `first` was derived from a reference to one element; the allocation
    // that it points into is the whole Vec's.
    Ok(unsafe { std::slice::from_raw_parts(first, len) })
}

/// The elements of a CPU tensor, mutable. The storage is copied first if another tensor shares it.
///
/// # Errors
/// As [`as_slice`].
pub fn as_mut_slice<'a, S: Shape, E: Unit, T>(
    op: &'static str,
    tensor: &'a mut Tensor<S, E, Cpu, T>,
) -> Result<&'a mut [E]> {
    let len = as_slice(op, tensor)?.len();
    if len == 0 {
        return Ok(&mut []);
    }
    let mut index = S::Concrete::default();
    for axis in 0..S::NUM_DIMS {
        index[axis] = 0;
    }
    let first: *mut E = &mut tensor[index];
    // SAFETY: as in `as_slice`; `tensor[index]` through IndexMut made the storage, of the same length,
    // unique to this tensor, and the tensor is borrowed mutably for 'a.
    Ok(unsafe { std::slice::from_raw_parts_mut(first, len) })
}

impl<E: Dtype> Views<E> for Cpu {
    type View<'a> = &'a [E];
    type ViewMut<'a> = &'a mut [E];

    fn view<'a, S: Shape>(op: &'static str, tensor: &'a Tensor<S, E, Self>) -> Result<&'a [E]> {
        as_slice(op, tensor)
    }

    fn view_mut<'a, S: Shape>(
        op: &'static str,
        tensor: &'a mut Tensor<S, E, Self>,
    ) -> Result<&'a mut [E]> {
        as_mut_slice(op, tensor)
    }

    fn buffer(buffer: &<Self as Storage<E>>::Vec) -> &[E] {
        buffer
    }

    fn buffer_mut(buffer: &mut <Self as Storage<E>>::Vec) -> &mut [E] {
        buffer
    }

    unsafe fn extended<'a>(view: &mut [E]) -> &'a mut [E] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(view.as_mut_ptr(), view.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::*;

    #[test]
    fn slices_see_the_storage() {
        let dev = Cpu::default();
        let mut t = dev.tensor([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!(
            as_slice("test", &t).unwrap(),
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        );
        let shared = t.clone();
        as_mut_slice("test", &mut t).unwrap()[4] = 9.0;
        assert_eq!(t.array(), [[1.0, 2.0, 3.0], [4.0, 9.0, 6.0]]);
        assert_eq!(shared.array(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    }

    #[test]
    fn views_that_are_not_contiguous_are_refused() {
        let dev = Cpu::default();
        let t = dev.tensor([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        let err = as_slice("test", &t.clone().permute::<Rank2<3, 2>, _>()).unwrap_err();
        assert!(err.to_string().contains("contiguous"), "{err}");
        let wide: Tensor<Rank3<2, 3, 4>, f32, _> = t.broadcast();
        assert!(as_slice("test", &wide).is_err());
    }

    #[test]
    fn views_that_only_end_elsewhere_are_refused() {
        let dev = Cpu::default();
        // One row, four times: no step along the second axis, but the last element is the fourth.
        let t = dev.tensor([1.0f32, 2.0, 3.0, 4.0]);
        let wide: Tensor<Rank2<1, 4>, f32, _> = t.clone().broadcast();
        assert_eq!(as_slice("test", &wide).unwrap(), [1.0, 2.0, 3.0, 4.0]);
        let tall: Tensor<Rank2<4, 1>, f32, _> = dev.tensor([1.0f32]).broadcast();
        assert!(as_slice("test", &tall).is_err());
    }

    /// A size that somebody else has defined, and that grows.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Growing;

    static SIZE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(4);

    impl Dim for Growing {
        fn size(&self) -> usize {
            SIZE.load(std::sync::atomic::Ordering::Relaxed)
        }
        fn from_size(size: usize) -> Option<Self> {
            (size == 4).then_some(Self)
        }
    }

    #[test]
    #[should_panic(expected = "out of bounds")]
    fn no_slice_is_longer_than_its_memory() {
        let t: Tensor<(Growing,), f32, _> = Cpu::default().zeros_like(&(Growing,));
        assert_eq!(as_slice("test", &t).unwrap().len(), 4);
        SIZE.store(1000, std::sync::atomic::Ordering::Relaxed);
        let _ = as_slice("test", &t);
    }

    #[test]
    fn empty_and_scalar_tensors() {
        let dev = Cpu::default();
        let t = dev.tensor(3.0f64);
        assert_eq!(as_slice("test", &t).unwrap(), [3.0]);
        let none = dev.zeros_like(&(0usize, Const::<3>));
        let none: Tensor<(usize, Const<3>), f32, _> = none;
        assert!(as_slice("test", &none).unwrap().is_empty());
    }
}
