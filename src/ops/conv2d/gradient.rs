//! What a backward pass computes with.

use dfdx::dtypes::Dtype;

use super::shrunk::ShrunkGradient;
use crate::backend::Conv2DKernel;
use crate::bridge::exchange::{self, mean_importance};
use crate::bridge::{Buffer, Pooling, View, Views};
use crate::error::Result;
use crate::kernels::args::conv2d::{Conv2DShape, KeptGrad};
use crate::ops::SparseBackward;
use crate::sparsity::{KeptCount, Masking};

/// dY (B, C_out, H_out, W_out) as a backward pass uses it: what a [`SparseBackward`] leaves of it, and
/// the whole, if dX comes from that.
#[derive(Debug)]
pub struct BackwardGradient<E: Dtype, D: Pooling<E> + Views<E>> {
    selected: SelectedGrad<E, D>,
    /// The whole of dY, if something is dropped from it that dX needs.
    for_input: Option<Buffer<E, D>>,
    /// How many channels, positions or elements are kept, and of how many.
    kept: [usize; 2],
}

/// What is left of dY.
#[derive(Debug)]
enum SelectedGrad<E: Dtype, D: Pooling<E> + Views<E>> {
    Whole(Buffer<E, D>),
    /// Kept channels, copied together.
    Shrunk(ShrunkGradient<E, D>),
    /// All channels, with zeros where dropped. If whole channels are dropped, the second field has the kept
    /// ones.
    Masked(Buffer<E, D>, Option<D::Kept>),
}

impl<E: Dtype, D: Pooling<E> + Views<E>> BackwardGradient<E, D> {
    /// What `backward` leaves of `dy` (B, C_out, H_out, W_out), whose channels' mean |dY| may be known.
    ///
    /// # Errors
    /// Those of [`ShrunkGradient::gather`] and of the device.
    pub fn new(
        dev: &D,
        shape: &Conv2DShape,
        dy: Buffer<E, D>,
        backward: &SparseBackward,
        known: Option<D::Importance>,
    ) -> Result<Self>
    where
        D: Conv2DKernel<E>,
    {
        let (channels, pixels) = (shape.c_out(), shape.output_pixels());
        let all = match backward.masking {
            Masking::Channels => channels,
            Masking::Positions => pixels,
            Masking::Elements => channels * pixels,
        };
        let own_importance = || match backward.masking {
            Masking::Channels => match known {
                Some(known) => Ok(known),
                None => dev.channel_importance(dy.view(), channels, pixels),
            },
            Masking::Positions | Masking::Elements => dev.column_importance(dy.view(), all),
        };
        let (selection, rate) = (&backward.selection, backward.drop_rate);
        let kept = match selection.largest_of(all, rate) {
            // The device may be far behind the host, which does not wait for it.
            Some(count) if exchange::current().is_none() => {
                Some(dev.largest(own_importance()?, all, count)?)
            }
            _ => {
                // All ranks of a distributed training keep the same.
                let importance = || mean_importance(D::importance_to_host(own_importance()?)?);
                let kept = selection.choose(all, rate, backward.draw, importance)?;
                kept.map(|kept| dev.keep(kept, all)).transpose()?
            }
        };
        let Some(kept) = kept else {
            return Ok(Self {
                selected: SelectedGrad::Whole(dy),
                for_input: None,
                kept: [all, all],
            });
        };
        let [count, _] = D::kept_of(&kept);
        let scale = selection.scale(count, all);
        if backward.prefers_dense(count, all) {
            let mut dy = dy;
            D::zero_dropped(dy.view_mut(), channels, pixels, D::kept(&kept))?;
            if scale != 1.0 {
                D::scale(dy.view_mut(), scale)?;
            }
            return Ok(Self {
                selected: SelectedGrad::Masked(dy, Some(kept)),
                for_input: None,
                kept: [count, all],
            });
        }
        let mut selected = match backward.masking {
            Masking::Channels => {
                SelectedGrad::Shrunk(ShrunkGradient::gather(dev, shape, &dy, kept)?)
            }
            Masking::Positions | Masking::Elements => {
                let mut masked = Buffer::take(dev, dy.len(dev))?;
                D::mask_columns(dy.view(), all, D::kept(&kept), masked.view_mut())?;
                SelectedGrad::Masked(masked, None)
            }
        };
        if scale != 1.0 {
            match &mut selected {
                SelectedGrad::Shrunk(shrunk) => shrunk.scale(scale)?,
                SelectedGrad::Whole(data) | SelectedGrad::Masked(data, _) => {
                    D::scale(data.view_mut(), scale)?
                }
            }
        }
        let for_input = backward.only_weight_sparse.then_some(dy);
        Ok(Self {
            selected,
            for_input,
            kept: [count, all],
        })
    }

    /// The buffer that dW and db come from, with its channels, for the kernels.
    pub fn view(&self) -> KeptGrad<View<'_, E, D>, D::KeptView<'_>> {
        match &self.selected {
            SelectedGrad::Shrunk(shrunk) => shrunk.view(),
            SelectedGrad::Whole(data) | SelectedGrad::Masked(data, _) => KeptGrad {
                data: data.view(),
                kept: None,
            },
        }
    }

    /// The channels whose rows of dW and db get something, if not all do and the host knows which: for the
    /// other ranks, with whom the host has chosen them.
    pub fn rows(&self) -> Option<&[usize]> {
        match &self.selected {
            SelectedGrad::Whole(_) => None,
            SelectedGrad::Shrunk(shrunk) => D::kept_on_host(shrunk.kept()),
            SelectedGrad::Masked(_, kept) => kept.as_ref().and_then(D::kept_on_host),
        }
    }

    /// The buffer that dX comes from, with its channels.
    pub fn view_for_input(&self) -> KeptGrad<View<'_, E, D>, D::KeptView<'_>> {
        match &self.for_input {
            Some(data) => KeptGrad {
                data: data.view(),
                kept: None,
            },
            None => self.view(),
        }
    }

    /// Adds what is kept to a count.
    pub fn count(&self, count: &KeptCount) {
        let [kept, all] = self.kept;
        count.add(kept, all);
    }
}
