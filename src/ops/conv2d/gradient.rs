//! What a backward pass computes with.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Storage;

use super::geometry::{Conv2DShape, OutputGrad};
use super::shrunk::ShrunkGradient;
use super::Conv2DKernel;
use crate::error::Result;
use crate::ops::Backward;
use crate::recycle::Recycle;
use crate::sparsity::{KeptChannels, KeptCount, Masking};

/// dY (B, C_OUT, H_out, W_out) as a backward pass uses it: what a [`Backward`] leaves of it, and
/// the whole, if dX comes from that.
#[derive(Debug)]
pub struct BackwardGradient<const C_OUT: usize, V> {
    left: Left<C_OUT, V>,
    /// The whole of dY, if something is dropped from it that dX needs.
    for_input: Option<V>,
    /// How many channels, positions or elements are kept, and of how many.
    kept: [usize; 2],
}

/// What is left of dY.
#[derive(Debug)]
enum Left<const C_OUT: usize, V> {
    Whole(V),
    /// Kept channels, copied together.
    Shrunk(ShrunkGradient<C_OUT, V>),
    /// Every channel, with zeros.
    Masked(V),
}

impl<const C_OUT: usize, V> BackwardGradient<C_OUT, V> {
    /// The whole of `dy`, for a layer that is never sparse.
    pub(crate) fn whole(dy: V) -> Self {
        Self {
            left: Left::Whole(dy),
            for_input: None,
            kept: [C_OUT, C_OUT],
        }
    }

    /// What `backward` leaves of `dy` (B, C_OUT, H_out, W_out).
    ///
    /// # Errors
    /// Those of [`ShrunkGradient::gather`] and of the device.
    pub fn new<E: Dtype, D>(
        dev: &D,
        shape: &Conv2DShape,
        dy: V,
        backward: &Backward,
    ) -> Result<Self>
    where
        D: Conv2DKernel<E> + Recycle<E> + Storage<E, Vec = V>,
    {
        Self::ranked(dev, shape, dy, backward, None)
    }

    /// The same, where the channels' mean |dY| may be known already.
    pub(crate) fn ranked<E: Dtype, D>(
        dev: &D,
        shape: &Conv2DShape,
        dy: V,
        backward: &Backward,
        known: Option<Vec<f64>>,
    ) -> Result<Self>
    where
        D: Conv2DKernel<E> + Recycle<E> + Storage<E, Vec = V>,
    {
        let pixels = shape.output_pixels();
        let all = match backward.masking {
            Masking::Channels => C_OUT,
            Masking::Positions => pixels,
            Masking::Elements => C_OUT * pixels,
        };
        let importance = || match backward.masking {
            Masking::Channels => match known {
                Some(known) => Ok(known),
                None => dev.channel_importance(&dy, C_OUT, pixels),
            },
            Masking::Positions | Masking::Elements => dev.column_importance(&dy, all),
        };
        let (selection, draw) = (&backward.selection, backward.draw);
        let Some(kept) = selection.choose(all, backward.drop_rate, draw, importance)? else {
            return Ok(Self {
                left: Left::Whole(dy),
                for_input: None,
                kept: [all, all],
            });
        };
        let (count, scale) = (kept.len(), selection.scale(kept.len(), all));
        if backward.prefers_dense(count, all) {
            let mut dy = dy;
            dev.zero_dropped(&mut dy, C_OUT, pixels, &kept)?;
            if scale != 1.0 {
                dev.scale(&mut dy, scale)?;
            }
            return Ok(Self {
                left: Left::Masked(dy),
                for_input: None,
                kept: [count, all],
            });
        }
        let mut left = match backward.masking {
            Masking::Channels => {
                let kept = KeptChannels::new(kept)?;
                Left::Shrunk(ShrunkGradient::gather(dev, shape, &dy, kept)?)
            }
            Masking::Positions | Masking::Elements => {
                Left::Masked(dev.mask_columns(&dy, all, &kept)?)
            }
        };
        if scale != 1.0 {
            match &mut left {
                Left::Shrunk(shrunk) => shrunk.scale(dev, scale)?,
                Left::Whole(data) | Left::Masked(data) => dev.scale(data, scale)?,
            }
        }
        let for_input = if backward.only_weight_sparse {
            Some(dy)
        } else {
            dev.recycle(dy);
            None
        };
        Ok(Self {
            left,
            for_input,
            kept: [count, all],
        })
    }

    /// The buffer that dW and db come from, with its channels, for the kernels.
    pub fn as_grad(&self) -> OutputGrad<'_, V> {
        match &self.left {
            Left::Shrunk(shrunk) => shrunk.as_grad(),
            Left::Whole(data) | Left::Masked(data) => OutputGrad { data, kept: None },
        }
    }

    /// The buffer that dX comes from, with its channels.
    pub fn for_input(&self) -> OutputGrad<'_, V> {
        match &self.for_input {
            Some(data) => OutputGrad { data, kept: None },
            None => self.as_grad(),
        }
    }

    /// Adds what is kept to a count.
    pub fn count(&self, count: &KeptCount) {
        let [kept, all] = self.kept;
        count.add(kept, all);
    }

    /// Gives the buffers back.
    pub fn recycle<E: Dtype, D: Recycle<E> + Storage<E, Vec = V>>(self, dev: &D) {
        match self.left {
            Left::Shrunk(shrunk) => dev.recycle(shrunk.into_data()),
            Left::Whole(data) | Left::Masked(data) => dev.recycle(data),
        }
        if let Some(data) = self.for_input {
            dev.recycle(data);
        }
    }
}
