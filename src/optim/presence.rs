//! Which parameters have a gradient.
//!
//! dfdx lets nobody outside ask whether a `Gradients` holds a tensor: `get` copies and panics,
//! `get_or_alloc_mut` makes up what is absent. Merging tapes is public, though, and lets the
//! entries of one `Gradients` win over those of another. So the given gradients are merged over
//! empty buffers, one a parameter: where a buffer is still empty, there was no gradient. Nothing
//! but map entries moves.

use std::cell::Cell;
use std::rc::Rc;

use dfdx::dtypes::Dtype;
use dfdx::shapes::Rank0;
use dfdx::tensor::{Gradients, Merge, PutTape, SplitTape, Storage, Tape, Tensor, Trace};
use dfdx::tensor_ops::{Backward, Device};

use crate::bridge::tensors::AnyTensor;
use crate::bridge::Views;
use crate::error::{Error, Result};

/// A buffer of `len` zeros.
pub(super) fn zeros<E, D: Storage<E>>(dev: &D, len: usize) -> Result<D::Vec> {
    dev.try_alloc_len(len).map_err(Error::device)
}

/// Finds the parameters without a gradient.
#[derive(Debug, Clone)]
pub(super) struct Presence<E: Dtype, D: Storage<E>> {
    /// An empty buffer for each parameter seen so far.
    empty: Gradients<E, D>,
    /// Carries tapes. Kept, so that the one gradient that it leaves in others is always the same.
    carrier: Option<Tensor<Rank0, E, D>>,
}

impl<E: Dtype, D: Device<E> + Views<E>> Presence<E, D> {
    pub(super) fn new() -> Self {
        Self {
            empty: Gradients::leaky(),
            carrier: None,
        }
    }

    /// Includes `param` in what [`Presence::mark`] marks.
    pub(super) fn watch(&mut self, param: &dyn AnyTensor<E, D>) -> Result<()> {
        let dev = param.device();
        let buffer = param.gradient(&mut self.empty)?;
        if Storage::<E>::len(dev, buffer) != 0 {
            *buffer = zeros::<E, D>(dev, 0)?;
        }
        if self.carrier.is_none() {
            self.carrier = Some(dev.try_zeros().map_err(Error::device)?);
        }
        Ok(())
    }

    /// Gives each watched parameter that has no gradient in `grads` one of no elements.
    pub(super) fn mark(&self, grads: &mut Gradients<E, D>) -> Result<()> {
        let Some(carrier) = &self.carrier else {
            return Ok(());
        };
        let given = std::mem::replace(grads, Gradients::leaky());
        let (_, marks) = carrier.clone().traced(self.empty.clone()).split_tape();
        let (_, given) = carrier.clone().traced(given).split_tape();
        let mut merged = marks.merge(given);
        // `backward` would drop the marks; a hook sees the gradients before it does.
        let out = Rc::new(Cell::new(None));
        let hook_out = out.clone();
        merged.add_backward_op(move |all: &mut Gradients<E, D>| {
            hook_out.set(Some(std::mem::replace(all, Gradients::leaky())));
            Ok(())
        });
        let left = carrier.clone().put_tape(merged).try_backward();
        *grads = out.take().unwrap_or_else(Gradients::leaky);
        left.map(drop).map_err(Error::device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::*;

    #[test]
    fn only_absent_gradients_are_marked_and_present_ones_are_kept() {
        let dev = Cpu::default();
        let a: Tensor<Rank1<3>, f32, _> = dev.ones();
        let b: Tensor<Rank1<4>, f32, _> = dev.ones();
        let zero: Tensor<Rank1<2>, f32, _> = dev.ones();
        let mut presence = Presence::new();
        presence.watch(&a).unwrap();
        presence.watch(&b).unwrap();
        presence.watch(&zero).unwrap();

        let mut grads = a.leaky_trace().square().sum().backward();
        grads.get_or_alloc_mut(&zero).unwrap();
        presence.mark(&mut grads).unwrap();
        assert_eq!(grads.get(&a).array(), [2.0; 3]);
        assert_eq!(grads.get_or_alloc_mut(&b).unwrap().len(), 0);
        assert_eq!(grads.get(&zero).array(), [0.0; 2]);
    }

    #[test]
    fn leafs_stay_leafs() {
        let dev = Cpu::default();
        let a: Tensor<Rank1<3>, f32, _> = dev.ones();
        let b: Tensor<Rank1<4>, f32, _> = dev.ones();
        let mut presence = Presence::new();
        presence.watch(&a).unwrap();
        presence.watch(&b).unwrap();
        let mut grads = dfdx::nn::ZeroGrads::alloc_grads(&a);
        presence.mark(&mut grads).unwrap();
        assert_eq!(grads.get_or_alloc_mut(&b).unwrap().len(), 0);
        grads.drop_non_leafs();
        // `b` is gone with the mark, so it is allocated in full; `a` is still there.
        *grads.get_or_alloc_mut(&a).unwrap().last_mut().unwrap() = 5.0;
        grads.drop_non_leafs();
        assert_eq!(grads.get_or_alloc_mut(&b).unwrap().len(), 4);
        assert_eq!(grads.get(&a).array(), [0.0, 0.0, 5.0]);
    }
}
