//! The gradient of a convolution's output, shrunk to the channels that are kept.

use dfdx::dtypes::Dtype;

use crate::backend::Conv2DKernel;
use crate::bridge::{Buffer, Pooling, View, Views};
use crate::error::{Error, Result};
use crate::kernels::args::conv2d::{Conv2DShape, KeptGrad};
use crate::sparsity::check_kept;

/// dY's kept channels, copied together: (B, kept, H_out, W_out). On some devices zeros are behind them, as further
/// channels.
///
/// The shape is checked against the kept channels when it is made, and these (if the host knows them) as
/// [`KeptChannels`](crate::sparsity::KeptChannels) are, so that whoever holds one can index it by them.
#[derive(Debug)]
pub struct ShrunkGradient<E: Dtype, D: Pooling<E> + Views<E>> {
    data: Buffer<E, D>,
    kept: D::Kept,
}

impl<E: Dtype, D: Pooling<E> + Views<E>> ShrunkGradient<E, D> {
    /// The channels `kept` of `dy` (B, C_out, H_out, W_out).
    ///
    /// # Errors
    /// [`Error::Shape`] if `dy` has not the number of elements that `shape` asks for; [`Error::Parameter`] for kept
    /// channels that are not ascending, unique, less than C_out, at least one.
    pub fn gather(dev: &D, shape: &Conv2DShape, dy: &Buffer<E, D>, kept: D::Kept) -> Result<Self>
    where
        D: Conv2DKernel<E>,
    {
        let pixels = shape.output_pixels();
        let all = shape.c_out();
        check_len(dy.len(dev), shape, all)?;
        if let Some(indices) = D::kept_on_host(&kept) {
            check_kept(indices, all)?;
        }
        let channels = D::shrunk_channels(shape, D::kept_len(&kept));
        let mut data = Buffer::take(dev, shape.batch() * channels * pixels)?;
        D::gather_channels(dy.view(), all, pixels, D::kept(&kept), data.view_mut())?;
        Ok(Self { data, kept })
    }

    /// The buffer and its channels, for the kernels.
    pub fn view(&self) -> KeptGrad<View<'_, E, D>, D::KeptView<'_>> {
        KeptGrad {
            data: self.data.view(),
            kept: Some(D::kept(&self.kept)),
        }
    }

    /// Multiplies every element by `factor`.
    ///
    /// # Errors
    /// Those of the device.
    pub fn scale(&mut self, factor: f64) -> Result<()>
    where
        D: Conv2DKernel<E>,
    {
        D::scale(self.data.view_mut(), factor)
    }

    /// The channels.
    pub fn kept(&self) -> &D::Kept {
        &self.kept
    }
}

fn check_len(found: usize, shape: &Conv2DShape, channels: usize) -> Result<()> {
    let expected = [
        shape.batch(),
        channels,
        shape.output()[0],
        shape.output()[1],
    ];
    if found == expected.iter().product::<usize>() {
        Ok(())
    } else {
        Err(Error::shape("shrunk gradient", "elements", expected, found))
    }
}
