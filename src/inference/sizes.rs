//! The sizes of a graph's values.

use dfdx::dtypes::Dtype;

use super::graph::{Graph, Node, Operation, PoolWindow};
use crate::error::{Error, Result};
use crate::kernels::args::conv2d::{Conv2DOp, Conv2DShape};
use crate::kernels::args::pool::Pool2DOp;
use crate::kernels::args::{window_count, ImageDims};

/// (B, C, H, W), or (B, N).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// (B, C, H, W)
    Images([usize; 4]),
    /// (B, N)
    Features([usize; 2]),
}

impl Sizes {
    /// The sizes, outermost first.
    pub fn as_slice(&self) -> &[usize] {
        match self {
            Self::Images(sizes) => sizes,
            Self::Features(sizes) => sizes,
        }
    }

    /// How many elements that is.
    pub fn elements(&self) -> usize {
        self.as_slice().iter().product()
    }

    /// Those of images, or of features as images of one position: batch, channels, and positions.
    pub fn dims(&self) -> ImageDims {
        let sizes = self.as_slice();
        ImageDims {
            batch: sizes[0],
            channels: sizes[1],
            plane: sizes[2..].iter().product(),
        }
    }

    /// Those of images.
    ///
    /// # Errors
    /// [`Error::Shape`] for features.
    pub fn images(&self) -> Result<[usize; 4]> {
        match self {
            Self::Images(sizes) => Ok(*sizes),
            Self::Features(sizes) => Err(unfit("input", "images (B, C, H, W)", sizes)),
        }
    }
}

fn unfit(what: &'static str, expected: impl std::fmt::Display, found: &[usize]) -> Error {
    Error::Shape {
        op: "Graph",
        what,
        expected: expected.to_string(),
        found: format!("{found:?}"),
    }
}

impl<E: Dtype> Graph<E> {
    /// The sizes of all values, the input's (B, C, H, W) or (B, N) first.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input that does not fit.
    pub(crate) fn sizes(&self, input: Sizes) -> Result<Vec<Sizes>> {
        let mut sizes = vec![input];
        for node in self.nodes() {
            let inputs: Vec<Sizes> = node.inputs.iter().map(|value| sizes[value.0]).collect();
            sizes.push(node.sizes(&inputs)?);
        }
        Ok(sizes)
    }
}

impl<E: Dtype> Node<E> {
    /// The sizes of what it puts out.
    fn sizes(&self, inputs: &[Sizes]) -> Result<Sizes> {
        let x = inputs[0];
        Ok(match &self.operation {
            Operation::Conv2D(op) => {
                let conv = self.conv(*op, x)?;
                let [h, w] = conv.output();
                Sizes::Images([conv.batch(), conv.c_out(), h, w])
            }
            Operation::BatchNorm2D { .. } => {
                self.check_channels(self.weights[0].sizes[0], x.images()?)?;
                x
            }
            Operation::Linear => {
                let (inputs, outputs) = (self.weights[0].sizes[1], self.weights[0].sizes[0]);
                match x {
                    Sizes::Features([batch, found]) if found == inputs => {
                        Sizes::Features([batch, outputs])
                    }
                    _ => {
                        let expected = format!("(B, {inputs}) at `{}`", self.path);
                        return Err(unfit("input", expected, x.as_slice()));
                    }
                }
            }
            Operation::ReLU | Operation::GELU => x,
            Operation::LayerNorm { .. } => match x.as_slice()[1] {
                found if found == self.weights[0].sizes[0] => x,
                _ => {
                    let expected =
                        format!("{:?} channels at `{}`", self.weights[0].sizes, self.path);
                    return Err(unfit("input", expected, x.as_slice()));
                }
            },
            Operation::PositionEmbedding => {
                let [_, c, h, w] = x.images()?;
                if self.weights[0].sizes[1..] != [h * w, c] {
                    let expected = format!(
                        "{:?} of positions and channels at `{}`",
                        &self.weights[0].sizes[1..],
                        self.path
                    );
                    return Err(unfit("images", expected, x.as_slice()));
                }
                x
            }
            &Operation::Attention { heads } => {
                let [b, c, h, w] = x.images()?;
                if c % (3 * heads) != 0 {
                    let expected = format!(
                        "three times as many channels for {heads} heads at `{}`",
                        self.path
                    );
                    return Err(unfit("images", expected, x.as_slice()));
                }
                Sizes::Images([b, c / 3, h, w])
            }
            Operation::Add if inputs[1] != x => {
                let expected = format!("{:?} at `{}`", x.as_slice(), self.path);
                return Err(unfit("second term", expected, inputs[1].as_slice()));
            }
            Operation::Add => x,
            Operation::MaxPool2D(window) | Operation::AvgPool2D(window) => {
                let [b, c, h, w] = x.images()?;
                let [h, w] = window.op([h, w])?.output;
                Sizes::Images([b, c, h, w])
            }
            Operation::GlobalAvgPool => {
                let [b, c, ..] = x.images()?;
                Sizes::Features([b, c])
            }
            Operation::Flatten => {
                let [b, c, h, w] = x.images()?;
                Sizes::Features([b, c * h * w])
            }
        })
    }

    /// The sizes of the convolution `op` of `x`.
    pub(super) fn conv(&self, op: Conv2DOp, x: Sizes) -> Result<Conv2DShape> {
        let (sizes, weight) = (x.images()?, &self.weights[0].sizes);
        self.check_channels(weight[1] * op.groups, sizes)?;
        Ok(Conv2DShape::new(op, sizes, weight[0])?)
    }

    fn check_channels(&self, channels: usize, images: [usize; 4]) -> Result<()> {
        match images[1] == channels {
            true => Ok(()),
            false => {
                let expected = format!("{channels} channels at `{}`", self.path);
                Err(unfit("images", expected, &images))
            }
        }
    }
}

impl PoolWindow {
    /// With the sizes of images.
    pub(super) fn op(&self, input: [usize; 2]) -> Result<Pool2DOp> {
        let count = |size| {
            window_count(size, self.kernel, self.stride, self.padding, 1)
                .filter(|_| size > 0)
                .ok_or_else(|| Error::shape("pool2d", "image under the window", self, input))
        };
        Ok(Pool2DOp {
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            input,
            output: [count(input[0])?, count(input[1])?],
        })
    }
}
