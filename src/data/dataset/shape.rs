//! The size of an image.

use crate::error::{Error, Result};

/// The size of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    /// Channels: 1 for grey, 3 for red, green and blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// The shape (channels, height, width).
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
        }
    }

    /// Values in an image, channels * height * width; `None` if they cannot be counted.
    pub const fn checked_len(&self) -> Option<usize> {
        match self.channels.checked_mul(self.height) {
            Some(rows) => rows.checked_mul(self.width),
            None => None,
        }
    }

    /// [`checked_len`](Self::checked_len), refusing sizes of 0.
    pub(crate) fn image_len(&self) -> Result<usize> {
        match self.checked_len() {
            Some(len) if len > 0 => Ok(len),
            _ => Err(Error::parameter(
                "image shape",
                self,
                "at least 1 in each size, and small enough to be counted",
            )),
        }
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}
