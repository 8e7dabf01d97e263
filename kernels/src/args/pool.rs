//! The sizes of a pooling.

/// A square window that moves over an image, and the sizes before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2DOp {
    /// The window's height and width.
    pub kernel: usize,
    /// The window's step.
    pub stride: usize,
    /// The rows and columns of padding at each edge of the image.
    pub padding: usize,
    /// The image's height and width.
    pub input: [usize; 2],
    /// The output's height and width.
    pub output: [usize; 2],
}
