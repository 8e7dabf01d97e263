//! The error behind one of dfdx's, which have no room for a message.
//!
//! A layer's error leaves a tuple of dfdx's as the device's error type. The last one of a thread is
//! kept beside it until it is asked for, or until the next operation begins.

use std::cell::RefCell;

use super::Error;

thread_local! {
    static LAST: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// Keeps the error that dfdx's stands for.
pub(crate) fn keep(err: Error) {
    LAST.set(Some(err));
}

/// The error that one of dfdx's stands for.
pub(super) fn take() -> Option<Error> {
    LAST.take()
}

/// Called where an operation begins: an error from before it was not asked for.
pub(crate) fn forget() {
    LAST.with_borrow_mut(|last| {
        if last.is_some() {
            *last = None;
        }
    });
}
