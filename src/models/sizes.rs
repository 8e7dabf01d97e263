//! The heights and widths that models work on.

use dfdx::shapes::Const;

use crate::shape::{ConvDim, HalfDown, HalfUp};

/// A height or width that the kernels of stride 1 of a residual block, 3x3 and 1x1, leave as it is:
/// any `usize` and any `Const<N>`.
pub trait Same: ConvDim<3, 1, 1, 1, Out = Self> + ConvDim<1, 1, 0, 1, Out = Self> {}

impl<S: ConvDim<3, 1, 1, 1, Out = S> + ConvDim<1, 1, 0, 1, Out = S>> Same for S {}

/// A height or width that the blocks of a residual network can work on: a kernel of stride 1 leaves
/// it as it is, and one of stride 2, 3x3 or 1x1, halves it (rounding up). Any `usize`, and
/// `Const<N>` for N up to 512.
pub trait Down:
    Same
    + ConvDim<3, 2, 1, 1, Out = <Self as Down>::Half>
    + ConvDim<1, 2, 0, 1, Out = <Self as Down>::Half>
{
    /// Half of it, rounded up.
    type Half: Same;
}

impl Down for usize {
    type Half = usize;
}

impl<const N: usize, const HALF: usize> Down for Const<N>
where
    Const<N>: HalfUp<Out = Const<HALF>>,
{
    type Half = Const<HALF>;
}

/// A height or width that a 3x3 convolution of stride 1 leaves as it is and a 2x2 pool of stride 2
/// halves (rounding down). Any `usize`, and `Const<N>` for N in 2..=513.
pub trait Halves: Same + ConvDim<2, 2, 0, 1, Out = <Self as Halves>::Half> {
    /// Half of it, rounded down.
    type Half: Same;
}

impl Halves for usize {
    type Half = usize;
}

impl<const N: usize, const HALF: usize> Halves for Const<N>
where
    Const<N>: HalfDown<Out = Const<HALF>>,
{
    type Half = Const<HALF>;
}
