//! Which parameters have a gradient.
//!
//! dfdx lets nobody outside ask whether a `Gradients` holds a tensor: `get` copies and panics,
//! `get_or_alloc_mut` makes up what is absent. Merging tapes is public, though, and lets the
//! entries of one `Gradients` win over those of another. So the given gradients are merged over
//! empty buffers, one a parameter: where a buffer is still empty, there was no gradient. Nothing
//! but map entries moves.
//!
//! On CUDA even empty buffers cost calls of the driver. `Gradients` that have been found to hold all, and keep all,
//! get a token: an empty entry of their own. As long as they have it, nothing is absent. Other parameters have another
//! token.

use std::cell::Cell;
use std::rc::Rc;

use dfdx::dtypes::Dtype;
use dfdx::nn::ZeroGrads;
use dfdx::shapes::Rank0;
use dfdx::tensor::{Gradients, Merge, OwnedTape, PutTape, SplitTape, Storage, Tape, Tensor, Trace};
use dfdx::tensor_ops::{Backward, Device};

use crate::bridge::tensors::AnyTensor;
use crate::bridge::Views;
use crate::error::{Error, Result};

/// A buffer of `len` zeros.
pub(super) fn zeros<E, D: Storage<E>>(dev: &D, len: usize) -> Result<D::Vec> {
    dev.try_alloc_len(len).map_err(Error::device)
}

/// Finds the parameters without a gradient.
#[derive(Debug)]
pub(super) struct Presence<E: Dtype, D: Storage<E>> {
    /// An empty buffer for each parameter seen so far.
    empty: Gradients<E, D>,
    /// Carries tapes. Kept, so that the one gradient that it leaves in others is always the same.
    carrier: Option<Tensor<Rank0, E, D>>,
    /// Whose gradient is the token, if that is empty.
    token: Option<Tensor<Rank0, E, D>>,
    /// Whether a parameter has been included that was not before.
    is_new: bool,
}

impl<E: Dtype, D: Storage<E>> Clone for Presence<E, D> {
    /// With a token of its own: it may come to watch other parameters.
    fn clone(&self) -> Self {
        Self {
            empty: self.empty.clone(),
            carrier: self.carrier.clone(),
            token: None,
            is_new: false,
        }
    }
}

impl<E: Dtype, D: Device<E> + Views<E>> Presence<E, D> {
    pub(super) fn new() -> Self {
        Self {
            empty: Gradients::leaky(),
            carrier: None,
            token: None,
            is_new: false,
        }
    }

    /// Includes `param` in what [`Presence::mark`] marks.
    pub(super) fn watch(&mut self, param: &dyn AnyTensor<E, D>) -> Result<()> {
        let dev = param.device();
        let buffer = param.gradient(&mut self.empty)?;
        if Storage::<E>::len(dev, buffer) != 0 {
            *buffer = zeros::<E, D>(dev, 0)?;
            self.is_new = true;
        }
        for own in [&mut self.carrier, &mut self.token] {
            if own.is_none() {
                *own = Some(dev.try_zeros().map_err(Error::device)?);
            }
        }
        Ok(())
    }

    /// Whether a parameter has been included that was not before: then all have to be, again.
    pub(super) fn has_changed(&mut self) -> bool {
        let is_new = std::mem::take(&mut self.is_new);
        if is_new {
            // Those of before may not come again, and no token holds for the new ones.
            (self.empty, self.token) = (Gradients::leaky(), None);
        }
        is_new
    }

    /// All have been included.
    pub(super) fn settle(&mut self) {
        self.is_new = false;
    }

    /// Whether `grads` are known to hold a gradient for every watched parameter. If not, [`mark`](Self::mark) finds out.
    pub(super) fn has_token(&self, grads: &mut Gradients<E, D>) -> Result<bool> {
        let Some(token) = &self.token else {
            return Ok(false);
        };
        let buffer = grads.get_or_alloc_mut(token).map_err(Error::device)?;
        Ok(Storage::<E>::len(token.device(), buffer) == 0)
    }

    /// The token is in `grads` afterwards if they hold all, and not otherwise. `holds_all`: whether nothing is absent,
    /// and will not be when dfdx drops what is no leaf.
    pub(super) fn set_token(&self, grads: &mut Gradients<E, D>, holds_all: bool) -> Result<()> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let dev = token.device();
        let len = usize::from(!holds_all);
        *grads.get_or_alloc_mut(token).map_err(Error::device)? = zeros::<E, D>(dev, len)?;
        if !holds_all {
            return Ok(());
        }
        grads.drop_non_leafs();
        if self.has_token(grads)? {
            return Ok(()); // they keep everything
        }
        // As a leaf it stays.
        let (_, leaf) = token.clone().traced(token.alloc_grads()).split_tape();
        let given = std::mem::replace(grads, Gradients::leaky());
        let (_, given) = token.clone().traced(given).split_tape();
        *grads = gradients_of(token, given.merge(leaf))?;
        *grads.get_or_alloc_mut(token).map_err(Error::device)? = zeros::<E, D>(dev, 0)?;
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
        *grads = gradients_of(carrier, marks.merge(given))?;
        Ok(())
    }
}

/// The gradients on a tape without operations.
fn gradients_of<E: Dtype, D: Device<E>>(
    carrier: &Tensor<Rank0, E, D>,
    mut tape: OwnedTape<E, D>,
) -> Result<Gradients<E, D>> {
    // `backward` would drop what is no leaf; a hook sees the gradients before it does.
    let out = Rc::new(Cell::new(None));
    let hook_out = out.clone();
    tape.add_backward_op(move |all: &mut Gradients<E, D>| {
        hook_out.set(Some(std::mem::replace(all, Gradients::leaky())));
        Ok(())
    });
    let left = carrier.clone().put_tape(tape).try_backward();
    left.map_err(Error::device)?;
    Ok(out.take().unwrap_or_else(Gradients::leaky))
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

    /// What the next update finds in gradients that an update has left.
    #[test]
    fn a_token_stays_as_long_as_nothing_can_be_absent() {
        let dev = Cpu::default();
        let a: Tensor<Rank1<3>, f32, _> = dev.ones();
        let b: Tensor<Rank1<4>, f32, _> = dev.ones();
        let mut presence = Presence::new();
        let watch = |presence: &mut Presence<f32, Cpu>, params: &[&dyn AnyTensor<f32, Cpu>]| {
            let all = |p: &mut Presence<_, _>| params.iter().try_for_each(|&param| p.watch(param));
            all(presence).unwrap();
            let changed = presence.has_changed();
            all(presence).unwrap();
            presence.settle();
            changed
        };
        assert!(watch(&mut presence, &[&a]) && !watch(&mut presence, &[&a]));
        let backward = |grads| a.clone().traced(grads).square().sum().backward();
        for mut grads in [Gradients::leaky(), a.alloc_grads()] {
            assert!(!presence.has_token(&mut grads).unwrap());
            presence.set_token(&mut grads, true).unwrap();
            grads = backward(grads);
            assert!(presence.has_token(&mut grads).unwrap());
            assert_eq!(grads.get(&a).array(), [2.0; 3]);
            // Others, made in the same way, do not have it.
            let mut others = backward(Gradients::leaky());
            assert!(!presence.has_token(&mut others).unwrap());
            presence.set_token(&mut grads, false).unwrap();
            assert!(!presence.has_token(&mut grads).unwrap());
        }

        // Nor do any, for other parameters, or for those of before again.
        let (mut one, mut other) = (a.alloc_grads(), a.alloc_grads());
        presence.set_token(&mut one, true).unwrap();
        presence.set_token(&mut other, true).unwrap();
        for params in [&[&a as &dyn AnyTensor<f32, Cpu>, &b][..], &[&b], &[&a]] {
            watch(&mut presence, params);
            assert!(!presence.has_token(&mut one).unwrap());
            assert!(!presence.has_token(&mut other).unwrap());
        }
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
