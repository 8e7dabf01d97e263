//! The memory of batches that are done with, for those to come: the system hands fresh memory out page by
//! page, which took a fifth of a loader's time.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Most pieces that are kept: one for each batch that is done with while others are being made.
const MOST: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Vec<f32>>>);

impl Pool {
    /// No values, with room for `capacity`.
    pub fn take(self: &Arc<Self>, capacity: usize) -> Recycled {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut values = kept.unwrap_or_default();
        values.clear();
        values.reserve_exact(capacity);
        Recycled {
            values,
            pool: Arc::downgrade(self),
        }
    }
}

/// Values whose memory goes back to its pool, as long as that is there.
#[derive(Debug, Default)]
pub(super) struct Recycled {
    values: Vec<f32>,
    pool: Weak<Pool>,
}

impl Drop for Recycled {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            let mut kept = pool.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MOST {
                kept.push(std::mem::take(&mut self.values));
            }
        }
    }
}

impl Deref for Recycled {
    type Target = Vec<f32>;

    fn deref(&self) -> &Vec<f32> {
        &self.values
    }
}

impl DerefMut for Recycled {
    fn deref_mut(&mut self) -> &mut Vec<f32> {
        &mut self.values
    }
}

impl Clone for Recycled {
    fn clone(&self) -> Self {
        Self {
            values: self.values.clone(),
            pool: Weak::new(),
        }
    }
}

impl PartialEq for Recycled {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_is_bounded() {
        let pool = Arc::new(Pool::default());
        let mut first = pool.take(10);
        first.extend([1.0, 2.0]);
        let copy = first.clone();
        let address = first.as_ptr();
        drop(first);
        let again = pool.take(8);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        assert_eq!(*copy, [1.0, 2.0]);
        let many: Vec<_> = (0..5).map(|_| pool.take(4)).collect();
        drop((many, copy));
        assert_eq!(pool.0.lock().unwrap().len(), MOST);
        drop(pool);
        drop(again);
    }
}
