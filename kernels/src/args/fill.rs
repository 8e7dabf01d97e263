//! Whether a gradient is added or written.

/// What a kernel does with the buffer that it is given for a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Adds to it.
    Add,
    /// Writes every element; what was there does not matter.
    Overwrite,
}

impl Fill {
    /// Makes sure that adding is enough: zeros, where the gradient is to be overwritten.
    #[inline(always)]
    pub fn begin<E: num_traits::Zero + Clone>(self, to: &mut [E]) {
        if self == Self::Overwrite {
            to.fill(E::zero());
        }
    }

    /// `to` += `value`, or `to` = `value`.
    #[inline(always)]
    pub fn write<E: std::ops::Add<Output = E> + Copy>(self, to: &mut E, value: E) {
        *to = match self {
            Self::Add => *to + value,
            Self::Overwrite => value,
        };
    }
}
