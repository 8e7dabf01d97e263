//! The gradient of a convolution's output, shrunk to the channels that are kept.

use dfdx::dtypes::Dtype;

use crate::backend::Conv2DKernel;
use crate::bridge::{Buffer, Pooling, View, Views};
use crate::error::Result;
use crate::kernels::args::check_kept_of;
use crate::kernels::args::conv2d::{check_len, Conv2DShape, KeptGrad};

/// dY's kept channels, copied together: (B, kept, H_out, W_out). On some devices zeros are behind them, as further
/// channels.
///
/// Its shape is checked against the convolution's when it is made, so that whoever holds one can index it by the kept
/// channels.
#[derive(Debug)]
pub struct ShrunkGradient<E: Dtype, D: Pooling<E> + Views<E>> {
    data: Buffer<E, D>,
    kept: D::Kept,
}

impl<E: Dtype, D: Pooling<E> + Views<E>> ShrunkGradient<E, D> {
    /// The channels `kept` of `dy` (B, C_out, H_out, W_out).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `dy` has not the number of elements that `shape` asks for, or
    /// the channels are kept of another number than C_out.
    pub fn gather(dev: &D, shape: &Conv2DShape, dy: &Buffer<E, D>, kept: D::Kept) -> Result<Self>
    where
        D: Conv2DKernel<E>,
    {
        let pixels = shape.output_pixels();
        let all = shape.c_out();
        let [count, of] = D::kept_of(&kept);
        check_len("dy", dy.len(dev), &shape.y(all))?;
        check_kept_of(of, all)?;
        let channels = D::shrunk_channels(shape, count);
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
