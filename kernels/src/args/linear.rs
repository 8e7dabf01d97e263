//! The sizes of a linear map.

use super::conv2d::{Conv2DOp, Conv2DShape};
use crate::error::Result;

/// The sizes of a linear map: x (batch, inputs), weight (outputs, inputs), y (batch, outputs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of x and y, B.
    pub batch: usize,
    /// Input features, I.
    pub inputs: usize,
    /// Output features, O.
    pub outputs: usize,
}

impl LinearShape {
    /// The same as a convolution: outputs are its channels, of one pixel each.
    pub fn conv(&self) -> Result<Conv2DShape> {
        let op = Conv2DOp {
            kernel: 1,
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        };
        Conv2DShape::new(op, [self.batch, self.inputs, 1, 1], self.outputs)
    }
}
