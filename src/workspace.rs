//! Scratch memory for kernels: buffers that live across steps, one pool a thread.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::element::Element;

/// A cache line, so that vectors of the widest instruction set never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

thread_local! {
    static POOL: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A cache-line-aligned buffer that goes back to its thread's pool when dropped.
pub struct Workspace<E = f32> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<E>,
}

impl<E: Element> Workspace<E> {
    /// A buffer of `len` elements. They hold whatever the last user left there.
    pub fn take(len: usize) -> Self {
        let needed = (len * size_of::<E>()).div_ceil(size_of::<Line>());
        let mut lines = POOL
            .with_borrow_mut(|pool| {
                // The smallest that is large enough, or else the largest, which then grows.
                let fitting = (0..pool.len())
                    .filter(|&i| pool[i].len() >= needed)
                    .min_by_key(|&i| pool[i].len())
                    .or_else(|| (0..pool.len()).max_by_key(|&i| pool[i].len()))?;
                Some(pool.swap_remove(fitting))
            })
            .unwrap_or_default();
        if lines.len() < needed {
            lines.clear();
            lines.resize(needed, Line([0.0; 16]));
        }
        Self {
            lines,
            len,
            element: PhantomData,
        }
    }

    /// A buffer of `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::take(len);
        buffer.fill(E::zero());
        buffer
    }
}

impl<E> Drop for Workspace<E> {
    fn drop(&mut self) {
        // While a thread ends its pool may be gone already: the buffer is then freed.
        let lines = std::mem::take(&mut self.lines);
        let _ = POOL.try_with(|pool| pool.borrow_mut().push(lines));
    }
}

impl<E: Element> Deref for Workspace<E> {
    type Target = [E];
    fn deref(&self) -> &[E] {
        // SAFETY: `lines` holds at least `len` elements, without padding between them; an element
        // is a float, for which every initialised bit pattern is valid.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<E: Element> DerefMut for Workspace<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as in `deref`; the buffer is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// A pointer that tasks share, each for a part of its own.
pub struct Shared<E = f32>(*mut E);

// SAFETY: whoever dereferences it says why no other task touches the same elements.
unsafe impl<E> Send for Shared<E> {}
// SAFETY: as above.
unsafe impl<E> Sync for Shared<E> {}

impl<E> Shared<E> {
    /// Shares `slice`'s elements.
    pub fn new(slice: &mut [E]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// The first element. (A method, so that closures capture the whole, which is `Sync`.)
    pub fn ptr(&self) -> *mut E {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_reused_and_of_the_length_asked_for() {
        let mut a = Workspace::<f32>::take(100);
        assert_eq!(a.len(), 100);
        assert_eq!(a.as_ptr() as usize % 64, 0);
        a.fill(7.0);
        let first = a.as_ptr();
        drop(a);
        let b = Workspace::<f32>::take(50);
        assert_eq!((b.as_ptr(), b.len()), (first, 50));
        let c = Workspace::<f32>::zeroed(200);
        assert!(c.iter().all(|&x| x == 0.0));
        assert_ne!(c.as_ptr(), b.as_ptr());
        drop(b);
        assert_eq!(Workspace::<f64>::take(50).as_ptr().cast(), first);
    }
}
