//! The gradient of a convolution's output, shrunk to the channels that are kept.

use dfdx::dtypes::Dtype;

use crate::backend::Conv2DKernel;
use crate::bridge::{Buffer, Pooling, View, Views};
use crate::error::{Error, Result};
use crate::kernels::args::conv2d::{Conv2DShape, OutputGrad};
use crate::sparsity::KeptChannels;

/// dY's kept channels, copied together: (B, kept, H_out, W_out).
///
/// The shape is checked against the [`KeptChannels`] when it is made, so that whoever holds one
/// can index it by them.
#[derive(Debug)]
pub struct ShrunkGradient<const C_OUT: usize, E: Dtype, D: Pooling<E> + Views<E>> {
    data: Buffer<E, D>,
    kept: KeptChannels<C_OUT>,
}

impl<const C_OUT: usize, E: Dtype, D: Pooling<E> + Views<E>> ShrunkGradient<C_OUT, E, D> {
    /// The channels `kept` of `dy` (B, C_OUT, H_out, W_out).
    ///
    /// # Errors
    /// [`Error::Shape`] if the convolution has other than `C_OUT` output channels, or `dy` or its
    /// copy has not the number of elements that the shapes ask for.
    pub fn gather(
        dev: &D,
        shape: &Conv2DShape,
        dy: &Buffer<E, D>,
        kept: KeptChannels<C_OUT>,
    ) -> Result<Self>
    where
        D: Conv2DKernel<E>,
    {
        let pixels = shape.output_pixels();
        if shape.c_out() != C_OUT {
            return Err(Error::shape(
                "shrunk gradient",
                "output channels",
                C_OUT,
                shape.c_out(),
            ));
        }
        check_len(dy.len(dev), shape, C_OUT)?;
        let mut data = Buffer::take(dev, shape.batch() * kept.len() * pixels)?;
        D::gather_channels(dy.view(), C_OUT, pixels, kept.indices(), data.view_mut())?;
        Ok(Self { data, kept })
    }

    /// The buffer and its channels, for the kernels.
    pub fn view(&self) -> OutputGrad<'_, View<'_, E, D>> {
        OutputGrad {
            data: self.data.view(),
            kept: Some(self.kept.indices()),
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
    pub fn kept(&self) -> &KeptChannels<C_OUT> {
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
