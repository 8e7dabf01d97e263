//! The gradient of a convolution's output, shrunk to the channels that are kept.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Storage;

use super::geometry::{Conv2DShape, OutputGrad};
use super::Conv2DKernel;
use crate::error::{Error, Result};
use crate::recycle::Recycle;
use crate::sparsity::{DropRate, KeptChannels};

/// dY's kept channels, copied together: (B, kept, H_out, W_out).
///
/// The shape is checked against the [`KeptChannels`] when it is made, so that whoever holds one
/// can index it by them.
#[derive(Debug)]
pub struct ShrunkGradient<const C_OUT: usize, V> {
    data: V,
    kept: KeptChannels<C_OUT>,
}

impl<const C_OUT: usize, V> ShrunkGradient<C_OUT, V> {
    /// The channels `kept` of `dy` (B, C_OUT, H_out, W_out).
    ///
    /// # Errors
    /// [`Error::Shape`] if the convolution has other than `C_OUT` output channels, or `dy` or its
    /// copy has not the number of elements that the shapes ask for.
    pub fn gather<E: Dtype, D: Conv2DKernel<E, Vec = V>>(
        dev: &D,
        shape: &Conv2DShape,
        dy: &V,
        kept: KeptChannels<C_OUT>,
    ) -> Result<Self> {
        let pixels = shape.output_pixels();
        if shape.c_out != C_OUT {
            return Err(Error::shape(
                "shrunk gradient",
                "output channels",
                C_OUT,
                shape.c_out,
            ));
        }
        check_len(dev.len(dy), shape, C_OUT)?;
        let data = dev.gather_channels(dy, C_OUT, pixels, kept.indices())?;
        check_len(dev.len(&data), shape, kept.len())?;
        Ok(Self { data, kept })
    }

    /// The buffer and its channels, for the kernels.
    pub fn as_grad(&self) -> OutputGrad<'_, V> {
        OutputGrad {
            data: &self.data,
            kept: Some(self.kept.indices()),
        }
    }

    /// The channels.
    pub fn kept(&self) -> &KeptChannels<C_OUT> {
        &self.kept
    }
}

fn check_len(found: usize, shape: &Conv2DShape, channels: usize) -> Result<()> {
    let expected = [shape.batch, channels, shape.output[0], shape.output[1]];
    if found == expected.iter().product::<usize>() {
        Ok(())
    } else {
        Err(Error::shape("shrunk gradient", "elements", expected, found))
    }
}

/// What a backward pass computes with: the whole of dY, or what is left of it.
#[derive(Debug)]
pub enum BackwardGradient<const C_OUT: usize, V> {
    /// Every channel is kept.
    Whole(V),
    /// Some are dropped.
    Shrunk(ShrunkGradient<C_OUT, V>),
}

impl<const C_OUT: usize, V> BackwardGradient<C_OUT, V> {
    /// `dy` (B, C_OUT, H_out, W_out), shrunk to the channels of the largest mean |dY| over batch,
    /// height and width if the drop rate leaves fewer than all.
    ///
    /// # Errors
    /// Those of [`ShrunkGradient::gather`] and of the device.
    pub fn new<E: Dtype, D>(
        dev: &D,
        shape: &Conv2DShape,
        dy: V,
        drop_rate: DropRate,
    ) -> Result<Self>
    where
        D: Conv2DKernel<E> + Recycle<E> + Storage<E, Vec = V>,
    {
        let count = drop_rate.kept_of(C_OUT);
        if count == C_OUT {
            return Ok(Self::Whole(dy));
        }
        let importance = dev.channel_importance(&dy, C_OUT, shape.output_pixels())?;
        let kept = KeptChannels::largest(&importance, count)?;
        let shrunk = ShrunkGradient::gather(dev, shape, &dy, kept)?;
        dev.recycle(dy);
        Ok(Self::Shrunk(shrunk))
    }

    /// The buffer and its channels, for the kernels.
    pub fn as_grad(&self) -> OutputGrad<'_, V> {
        match self {
            Self::Whole(data) => OutputGrad { data, kept: None },
            Self::Shrunk(shrunk) => shrunk.as_grad(),
        }
    }

    /// The buffer, for another use.
    pub fn into_data(self) -> V {
        match self {
            Self::Whole(data) => data,
            Self::Shrunk(shrunk) => shrunk.data,
        }
    }
}
