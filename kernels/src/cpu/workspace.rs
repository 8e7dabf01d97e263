//! Scratch memory for kernels: buffers that live across steps, a list for each thread.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::cpu::element::Element;

/// A cache line, so that vectors of the widest instruction set never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Buffers that no kernel of a thread holds, each with the [`AGE`] at which one so large was needed
/// last.
type Idle = Vec<(Vec<Line>, u64)>;

/// How often [`free_unused`] has been called.
static AGE: AtomicU64 = AtomicU64::new(0);

/// Every thread's buffers, so that other threads can free them.
static THREADS: Mutex<Vec<Weak<Mutex<Idle>>>> = Mutex::new(Vec::new());

thread_local! {
    static POOL: Arc<Mutex<Idle>> = {
        let pool = Arc::new(Mutex::new(Idle::new()));
        let mut threads = lock(&THREADS);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(&pool));
        pool
    };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No panic leaves a list of buffers half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frees the buffers of all threads that no kernel has needed since the last call. (A kernel that
/// used no more than half of one did not need it.)
pub fn free_unused() {
    let age = AGE.fetch_add(1, Ordering::Relaxed);
    for thread in lock(&THREADS).iter().filter_map(Weak::upgrade) {
        lock(&thread).retain(|&(_, used)| used >= age);
    }
}

/// Frees the buffers of all threads, but for those in use.
pub fn free_all() {
    for thread in lock(&THREADS).iter().filter_map(Weak::upgrade) {
        *lock(&thread) = Idle::new();
    }
}

/// A cache-line-aligned buffer that goes back to its thread's pool when dropped.
pub struct Workspace<E = f32> {
    lines: Vec<Line>,
    len: usize,
    /// The [`AGE`] at which one so large was needed last.
    needed_at: u64,
    element: PhantomData<E>,
}

impl<E: Element> Workspace<E> {
    /// A buffer of `len` elements. They hold whatever the last user left there.
    pub fn take(len: usize) -> Self {
        let needed = (len * size_of::<E>()).div_ceil(size_of::<Line>());
        let idle = POOL.with(|pool| {
            let mut pool = lock(pool);
            // The smallest that is large enough, or else the largest, in whose place a larger comes.
            let fitting = (0..pool.len())
                .filter(|&i| pool[i].0.len() >= needed)
                .min_by_key(|&i| pool[i].0.len())
                .or_else(|| (0..pool.len()).max_by_key(|&i| pool[i].0.len()))?;
            Some(pool.swap_remove(fitting))
        });
        let now = AGE.load(Ordering::Relaxed);
        let (lines, needed_at) = match idle {
            Some((lines, at)) if lines.len() >= 2 * needed.max(1) => (lines, at),
            Some((lines, _)) if lines.len() >= needed => (lines, now),
            smaller => {
                drop(smaller);
                (vec![Line([0.0; 16]); needed], now)
            }
        };
        Self {
            lines,
            len,
            needed_at,
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
        let _ = POOL.try_with(|pool| lock(pool).push((lines, self.needed_at)));
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
pub struct Shared<'a, E = f32>(*mut E, PhantomData<&'a mut [E]>);

// SAFETY: whoever dereferences it says why no other task touches the same elements, which may go from
// thread to thread.
unsafe impl<E: Send> Send for Shared<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Send> Sync for Shared<'_, E> {}

impl<'a, E> Shared<'a, E> {
    /// Shares `slice`'s elements, which nobody else sees while it lives.
    pub fn new(slice: &'a mut [E]) -> Self {
        Self(slice.as_mut_ptr(), PhantomData)
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

    #[test]
    fn buffers_that_are_not_used_any_more_are_freed() {
        // A thread of its own, whose list no other test touches.
        let held = || POOL.with(|pool| lock(pool).len());
        std::thread::spawn(move || {
            drop((Workspace::<f32>::take(4096), Workspace::<f32>::take(4096)));
            assert_eq!(held(), 2);
            // Other tests may call it too.
            while held() == 2 {
                free_unused();
                drop(Workspace::<f32>::take(4096));
            }
            assert_eq!(held(), 1);
            // Small products borrow a large buffer, but do not keep it.
            drop(Workspace::<f32>::take(4096));
            while POOL.with(|pool| lock(pool).iter().any(|(lines, _)| lines.len() >= 256)) {
                free_unused();
                drop(Workspace::<f32>::take(64));
            }
            let used = Workspace::<f32>::take(4096);
            free_all();
            assert_eq!((held(), used.len()), (0, 4096));
        })
        .join()
        .unwrap();
    }
}
