//! Which tensors need no gradient, while a step of a training lasts: parameters that are frozen, the images, and what
//! operations made of these alone.
//!
//! dfdx gives a gradient to every tensor on a tape. Operations of this crate ask here, and leave out what nobody has
//! a use for.

use std::cell::RefCell;
use std::collections::HashSet;

use dfdx::dtypes::Dtype;
use dfdx::optim::UnusedTensors;
use dfdx::shapes::Shape;
use dfdx::tensor::{Storage, Tensor, UniqueId};

thread_local! {
    /// `None` between steps.
    static UNNEEDED: RefCell<Option<HashSet<UniqueId>>> = const { RefCell::new(None) };
}

/// The only way to a tensor's identity that dfdx leaves open.
fn id<S: Shape, E: Dtype, D: Storage<E>, T>(tensor: &Tensor<S, E, D, T>) -> UniqueId {
    let mut ids = UnusedTensors::default();
    ids.add(tensor);
    ids.ids[0]
}

/// Notes that nobody needs this tensor's gradient in this step.
pub fn add<S: Shape, E: Dtype, D: Storage<E>, T>(tensor: &Tensor<S, E, D, T>) {
    UNNEEDED.with_borrow_mut(|ids| {
        ids.as_mut().map(|ids| ids.insert(id(tensor)));
    });
}

/// Whether nobody needs this tensor's gradient in this step.
pub fn contains<S: Shape, E: Dtype, D: Storage<E>, T>(tensor: &Tensor<S, E, D, T>) -> bool {
    UNNEEDED.with_borrow(|ids| ids.as_ref().is_some_and(|ids| ids.contains(&id(tensor))))
}

/// As long as it lives, this thread's operations leave out gradients that nobody needs: the forward pass of a step.
pub struct Step(());

impl Step {
    /// Begins with the parameters that are frozen.
    pub fn begin(frozen: &UnusedTensors) -> Self {
        UNNEEDED.set(Some(frozen.ids.iter().copied().collect()));
        Self(())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        UNNEEDED.take();
    }
}
