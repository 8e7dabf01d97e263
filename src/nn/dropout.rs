//! Dropout as a part of other layers: its rate, and where its masks come from.

use dfdx::dtypes::Dtype;
use dfdx::shapes::Shape;
use dfdx::tensor::{Tape, Tensor};

use crate::backend::Backend;
use crate::error::Result;
use crate::kernels::args::dropout::{check_rate, mix};
use crate::ops::dropout::{try_dropout, DropoutMask};

/// The dropout of a layer's output in training. Off (rate 0) at first.
///
/// Its masks follow from the seed, the epoch and the number of steps since the epoch began, and
/// from nothing else: a run that is resumed draws what it would have drawn.
/// [`VisitLayers`](super::VisitLayers) sets that of a whole model.
///
/// ```
/// use ssprop::nn::Dropout;
///
/// let mut dropout = Dropout::new(0.4, 1)?;
/// let masks = [dropout.next_mask(), dropout.next_mask()];
/// assert_ne!(masks[0], masks[1]);
/// dropout.start_epoch(0);
/// assert_eq!(masks[0], dropout.next_mask());
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    rate: f64,
    seed: u64,
    epoch: u64,
    step: u64,
    images_before: usize,
}

impl Dropout {
    /// Drops elements with probability `rate`, at the beginning of epoch 0.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) if `rate` is not at least 0 and less than 1.
    pub fn new(rate: f64, seed: u64) -> Result<Self> {
        check_rate(rate)?;
        Ok(Self {
            rate,
            seed,
            epoch: 0,
            step: 0,
            images_before: 0,
        })
    }

    /// The same with another seed.
    pub(super) fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The probability that an element is dropped.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether anything is dropped.
    pub fn is_on(&self) -> bool {
        self.rate > 0.0
    }

    /// Begins epoch number `epoch`: its masks are those of no other epoch.
    pub fn start_epoch(&mut self, epoch: u64) {
        self.resume_epoch(epoch, 0);
    }

    /// Goes on in epoch number `epoch`, of which `steps` are done.
    pub fn resume_epoch(&mut self, epoch: u64, steps: u64) {
        self.epoch = epoch;
        self.step = steps;
    }

    /// The batches to come are parts of others, before which lie so many images (of other ranks): their
    /// masks are those parts of the whole batches' masks.
    pub fn begin_after(&mut self, images: usize) {
        self.images_before = images;
    }

    /// The next step's mask.
    pub fn next_mask(&mut self) -> DropoutMask {
        let key = mix(mix(self.seed, self.epoch), self.step);
        self.step = self.step.wrapping_add(1);
        DropoutMask::of_checked(self.rate, key).after_images(self.images_before)
    }

    /// Drops elements of `x` by the next mask; if it is off, x is handed on as it is.
    ///
    /// # Errors
    /// As [`try_dropout`].
    pub fn try_apply<S: Shape, E: Dtype, D: Backend<E>, T: Tape<E, D>>(
        &mut self,
        x: Tensor<S, E, D, T>,
    ) -> Result<Tensor<S, E, D, T>> {
        try_dropout(x, self.next_mask())
    }
}
