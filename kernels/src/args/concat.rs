//! Where images lie in their concatenation.

/// One of two images that lie in one: the elements that an image of the whole has, and those of
/// them that are this one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Elements of an image of the whole, (A + C) H W.
    pub whole: usize,
    /// This part's elements of it.
    pub range: std::ops::Range<usize>,
}
