//! The sizes of one convolution.

use super::batch_norm::Activation;
use super::kept::check_kept_of;
use super::{window_count, KeptChannels};
use crate::error::{Error, Result};

/// What a 2-d convolution does, whatever it is applied to: shared by forward and backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2DOp {
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step between two windows, along both axes.
    pub stride: usize,
    /// Zeros added at each of the four edges.
    pub padding: usize,
    /// Distance between two taps of the kernel.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

/// A [`Conv2DOp`] with every size of its tensors.
///
/// x: (B, C_in, H, W), weight: (C_out, C_in / groups, K, K), y: (B, C_out, H_out, W_out). Only
/// [`Self::new`] makes one, so that the sizes belong together: kernels that write through pointers
/// rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2DShape {
    /// Kernel, stride, padding, dilation and groups.
    op: Conv2DOp,
    /// Images, B.
    batch: usize,
    /// Input channels.
    c_in: usize,
    /// Input height and width.
    input: [usize; 2],
    /// Output channels.
    c_out: usize,
    /// Output height and width.
    output: [usize; 2],
    /// Whether Winograd's algorithm may be used.
    winograd: bool,
}

impl Conv2DShape {
    /// The sizes of `op` on (batch, c_in, height, width), with `c_out` output channels.
    ///
    /// # Errors
    /// [`Error::Shape`] if the window does not fit the image, an image has 2^31 pixels or more, or the
    /// sizes overflow; [`Error::Parameter`] if a channel count is 0 or the groups do not divide it.
    pub fn new(op: Conv2DOp, [batch, c_in, h, w]: [usize; 4], c_out: usize) -> Result<Self> {
        if c_in == 0 || c_out == 0 {
            return Err(Error::parameter(
                "channels",
                format_args!("{c_in} in, {c_out} out"),
                "at least 1 on either side",
            ));
        }
        if op.groups == 0 || !c_in.is_multiple_of(op.groups) || !c_out.is_multiple_of(op.groups) {
            return Err(Error::parameter(
                "groups",
                op.groups,
                "a divisor of both channel counts",
            ));
        }
        let count = |size| {
            window_count(size, op.kernel, op.stride, op.padding, op.dilation)
                .ok_or_else(|| Error::shape("conv2d", "image under the window", op, [h, w]))
        };
        let shape = Self {
            op,
            batch,
            c_in,
            input: [h, w],
            c_out,
            output: [count(h)?, count(w)?],
            winograd: true,
        };
        // Positions inside a plane are 32 bits wide where vectors of them are needed.
        for [h, w] in [shape.input, shape.output] {
            if h.checked_mul(w).is_none_or(|n| n > i32::MAX as usize) {
                return Err(Error::Shape {
                    op: "conv2d",
                    what: "image",
                    expected: format!("at most {} pixels, before and after", i32::MAX),
                    found: format!("{h} x {w}"),
                });
            }
        }
        // The unfolded image of one group is the largest thing that any kernel indexes.
        let columns = [
            c_in,
            op.kernel,
            op.kernel,
            batch,
            shape.output[0],
            shape.output[1],
        ];
        for sizes in [&columns[..], &shape.x(), &shape.y(c_out), &shape.weight()] {
            let elements = sizes
                .iter()
                .try_fold(1usize, |n, &size| n.checked_mul(size));
            if elements.is_none_or(|n| n > isize::MAX as usize / 8) {
                return Err(Error::Shape {
                    op: "conv2d",
                    what: "size",
                    expected: "fewer elements than memory can hold".into(),
                    found: format!("{sizes:?}"),
                });
            }
        }
        Ok(shape)
    }

    /// Whether Winograd's algorithm may be used.
    pub fn winograd(&self) -> bool {
        self.winograd
    }

    /// The same convolution, with Winograd's algorithm where it pays, or without it anywhere.
    #[must_use]
    pub fn with_winograd(self, winograd: bool) -> Self {
        Self { winograd, ..self }
    }

    /// Kernel, stride, padding, dilation and groups.
    pub fn op(&self) -> Conv2DOp {
        self.op
    }

    /// Images, B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Input channels.
    pub fn c_in(&self) -> usize {
        self.c_in
    }

    /// Input height and width.
    pub fn input(&self) -> [usize; 2] {
        self.input
    }

    /// Output channels.
    pub fn c_out(&self) -> usize {
        self.c_out
    }

    /// Output height and width.
    pub fn output(&self) -> [usize; 2] {
        self.output
    }

    /// The input's shape, (B, C_in, H, W).
    pub fn x(&self) -> [usize; 4] {
        [self.batch, self.c_in, self.input[0], self.input[1]]
    }

    /// The weight's shape, (C_out, C_in / groups, K, K).
    pub fn weight(&self) -> [usize; 4] {
        [self.c_out, self.group_in(), self.op.kernel, self.op.kernel]
    }

    /// The shape of `channels` channels of the output, (B, channels, H_out, W_out).
    pub fn y(&self, channels: usize) -> [usize; 4] {
        [self.batch, channels, self.output[0], self.output[1]]
    }

    /// Input pixels of one channel, H * W.
    pub fn input_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Output pixels of one channel, H_out * W_out.
    pub fn output_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Input channels of one group.
    pub fn group_in(&self) -> usize {
        self.c_in / self.op.groups
    }

    /// Output channels of one group.
    pub fn group_out(&self) -> usize {
        self.c_out / self.op.groups
    }

    /// The channels of a gradient that belong to a group, as a range of its slots.
    pub fn slots(&self, kept: Option<&KeptChannels>, group: usize) -> std::ops::Range<usize> {
        let k = self.group_out();
        let of = |channel| kept.map_or(channel, |kept| kept.partition_point(|&c| c < channel));
        of(group * k)..of((group + 1) * k)
    }

    /// Weights of one output channel, C_in / groups * K * K.
    pub fn filter_len(&self) -> usize {
        self.group_in() * self.op.kernel * self.op.kernel
    }

    /// Whether a column is a pixel: nothing to unfold.
    pub fn is_pointwise(&self) -> bool {
        self.op.kernel == 1 && self.op.stride == 1 && self.op.padding == 0
    }
}

/// The gradient of a convolution's output, whole or shrunk to its kept channels: (B, n, H_out,
/// W_out), where n is C_out or how many channels are kept; on CUDA zeros may follow as further channels. `K` is where the
/// device has the kept ones.
#[derive(Clone, Copy, Debug)]
pub struct KeptGrad<V, K> {
    /// The elements.
    pub data: V,
    /// The channels that are there; `None` for all.
    pub kept: Option<K>,
}

/// One whose kept channels the host has.
pub type OutputGrad<'a, V> = KeptGrad<V, &'a KeptChannels>;

impl<V> OutputGrad<'_, V> {
    /// How many of the `c_out` channels are there.
    pub fn channels(&self, c_out: usize) -> usize {
        self.kept.map_or(c_out, |kept| kept.len())
    }

    /// That they were kept of `c_out`.
    ///
    /// # Errors
    /// [`Error::Shape`] if not.
    pub fn check_kept(&self, c_out: usize) -> Result<()> {
        self.kept
            .map_or(Ok(()), |kept| check_kept_of(kept.all(), c_out))
    }
}

impl<E> OutputGrad<'_, &[E]> {
    /// That it is that of a convolution of `shape`.
    ///
    /// # Errors
    /// [`Error::Shape`] if not.
    pub fn check(&self, shape: &Conv2DShape) -> Result<()> {
        self.check_kept(shape.c_out())?;
        let channels = self.channels(shape.c_out());
        check_len("dy", self.data.len(), &shape.y(channels))
    }
}

/// That memory has as many elements as its shape asks for.
///
/// # Errors
/// [`Error::Shape`] if not.
pub fn check_len(what: &'static str, found: usize, shape: &[usize]) -> Result<()> {
    if found == shape.iter().product::<usize>() {
        return Ok(());
    }
    Err(Error::Shape {
        op: "conv2d",
        what,
        expected: format!("{shape:?}"),
        found: format!("{found} elements"),
    })
}

/// What follows a convolution in the pass that writes its output: y = f(conv(x, w) + bias + residual).
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<V> {
    /// (C_out)
    pub bias: Option<V>,
    /// (B, C_out, H_out, W_out)
    pub residual: Option<V>,
    /// f
    pub activation: Activation,
}

impl<V> Epilogue<V> {
    /// No more than a bias.
    pub fn bias(bias: Option<V>) -> Self {
        Self {
            bias,
            residual: None,
            activation: Activation::Identity,
        }
    }
}
