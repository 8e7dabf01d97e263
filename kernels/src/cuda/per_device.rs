//! What a thread keeps for each device.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::error::Result;

/// One `T` a device, made when it is first asked for.
pub(super) struct PerDevice<T>(RefCell<BTreeMap<i32, Rc<T>>>);

impl<T> PerDevice<T> {
    pub(super) const fn new() -> Self {
        Self(RefCell::new(BTreeMap::new()))
    }

    pub(super) fn get(&self, device: i32, make: impl FnOnce() -> Result<T>) -> Result<Rc<T>> {
        if let Some(known) = self.0.borrow().get(&device) {
            return Ok(known.clone());
        }
        let made = Rc::new(make()?);
        self.0.borrow_mut().insert(device, made.clone());
        Ok(made)
    }

    /// Those of all devices.
    pub(super) fn all(&self) -> Vec<Rc<T>> {
        self.0.borrow().values().cloned().collect()
    }

    /// Drops this thread's references: what is in use lives on until its last user drops it.
    pub(super) fn clear(&self) {
        self.0.take();
    }
}
