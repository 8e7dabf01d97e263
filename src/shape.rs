//! Output sizes of convolutions and pools, at compile time where the input's are.
//!
//! A layer's forward asks `H: ConvDim<K, STRIDE, PADDING, DILATION>` of the image's height and of
//! its width. For a `usize` the size is computed when the program runs. For a `Const<N>` the
//! compiler knows it, for the geometries that networks use:
//!
//! | geometry | output |
//! |---|---|
//! | K1 S1 P0, K3 S1 P1, K5 S1 P2, K7 S1 P3, K3 S1 P2 D2, K3 S1 P4 D4 ("same") | N |
//! | K1 S2 P0, K3 S2 P1, K5 S2 P2, K7 S2 P3 | ceil(N / 2) |
//! | K2 S2 P0, K4 S2 P1 | floor(N / 2) |
//! | K3 S1 P0 ("valid") | N - 2 |
//!
//! The last three rows for N up to 512. Other geometries take `usize` sizes.
//!
//! ```
//! use dfdx::shapes::Const;
//! use ssprop::shape::ConvDim;
//!
//! let half = <Const<32> as ConvDim<3, 2, 1, 1>>::conv(&Const).unwrap();
//! let _: Const<16> = half;
//! assert_eq!(ConvDim::<3, 2, 1, 1>::conv(&33usize).unwrap(), 17);
//! ```

use dfdx::shapes::{Const, Dim};

use crate::error::{Error, Result};

pub use crate::kernels::args::window_count;

/// A size that a window of `K` taps, with stride `S`, padding `P` and dilation `D`, can move over.
#[diagnostic::on_unimplemented(
    message = "a window with kernel {K}, stride {S}, padding {P}, dilation {D} has no compile-time output size over `{Self}`",
    label = "no output size for `{Self}`",
    note = "use a geometry listed in `ssprop::shape`, or a `usize` size"
)]
pub trait ConvDim<const K: usize, const S: usize, const P: usize, const D: usize>: Dim {
    /// The output's size.
    type Out: Dim;

    /// The output's size for this input size.
    ///
    /// # Errors
    /// [`Error::Shape`] if a size known only at run time is smaller than the window.
    fn conv(&self) -> Result<Self::Out>;
}

impl<const K: usize, const S: usize, const P: usize, const D: usize> ConvDim<K, S, P, D> for usize {
    type Out = usize;
    fn conv(&self) -> Result<usize> {
        for (name, value) in [("kernel", K), ("stride", S), ("dilation", D)] {
            if value == 0 {
                return Err(Error::parameter(name, value, "at least 1"));
            }
        }
        window_count(*self, K, S, P, D).ok_or_else(|| Error::Shape {
            op: "window",
            what: "size of the image",
            expected: format!(
                "at least {} for kernel {K}, stride {S}, padding {P}, dilation {D}",
                D.saturating_mul(K - 1)
                    .saturating_add(1)
                    .saturating_sub(P.saturating_mul(2))
            ),
            found: self.to_string(),
        })
    }
}

macro_rules! same {
    ($($k:literal $p:literal $d:literal),*) => {$(
        impl<const N: usize> ConvDim<$k, 1, $p, $d> for Const<N> {
            type Out = Const<N>;
            fn conv(&self) -> Result<Self::Out> {
                Ok(Const)
            }
        }
    )*};
}
same!(1 0 1, 3 1 1, 5 2 1, 7 3 1, 3 2 2, 3 4 4);

/// Half of a compile-time size, rounded up, for N in 1..=512.
pub trait HalfUp: Dim {
    /// ceil(N / 2)
    type Out: Dim + Default;
}

/// Half of a compile-time size, rounded down, for N in 2..=513.
pub trait HalfDown: Dim {
    /// floor(N / 2)
    type Out: Dim + Default;
}

/// A compile-time size from which 2 can be taken, for N in 3..=514.
pub trait MinusTwo: Dim {
    /// N - 2
    type Out: Dim + Default;
}

macro_rules! via_table {
    ($table:ident; $($k:literal $s:literal $p:literal),*) => {$(
        impl<const N: usize> ConvDim<$k, $s, $p, 1> for Const<N>
        where
            Const<N>: $table,
        {
            type Out = <Const<N> as $table>::Out;
            fn conv(&self) -> Result<Self::Out> {
                Ok(Default::default())
            }
        }
    )*};
}
via_table!(HalfUp; 1 2 0, 3 2 1, 5 2 2, 7 2 3);
via_table!(HalfDown; 2 2 0, 4 2 1);
via_table!(MinusTwo; 3 1 0);

/// Writes the three tables for eight consecutive sizes above each multiple of eight.
macro_rules! table {
    ($($n:literal)*) => {$(
        table!(@ $n; 1 1, 2 1, 3 2, 4 2, 5 3, 6 3, 7 4, 8 4);
    )*};
    (@ $n:literal; $($i:literal $half:literal),*) => {$(
        impl HalfUp for Const<{ $n + $i }> {
            type Out = Const<{ $n / 2 + $half }>;
        }
        impl HalfDown for Const<{ $n + $i + 1 }> {
            type Out = Const<{ $n / 2 + $half }>;
        }
        impl MinusTwo for Const<{ $n + $i + 2 }> {
            type Out = Const<{ $n + $i }>;
        }
    )*};
}
#[rustfmt::skip]
table!(
    0 8 16 24 32 40 48 56 64 72 80 88 96 104 112 120 128 136 144 152 160 168 176 184 192 200 208
    216 224 232 240 248 256 264 272 280 288 296 304 312 320 328 336 344 352 360 368 376 384 392
    400 408 416 424 432 440 448 456 464 472 480 488 496 504
);

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const K: usize, const S: usize, const P: usize, D>(size: D)
    where
        D: ConvDim<K, S, P, 1>,
    {
        let typed = size.conv().unwrap().size();
        assert_eq!(Some(typed), window_count(size.size(), K, S, P, 1));
    }

    #[test]
    fn typed_sizes_equal_computed_ones() {
        fn all<D>(size: D)
        where
            D: ConvDim<3, 2, 1, 1>
                + ConvDim<1, 2, 0, 1>
                + ConvDim<7, 2, 3, 1>
                + ConvDim<2, 2, 0, 1>
                + ConvDim<4, 2, 1, 1>
                + ConvDim<3, 1, 1, 1>
                + ConvDim<3, 1, 0, 1>,
        {
            check::<3, 2, 1, D>(size);
            check::<1, 2, 0, D>(size);
            check::<7, 2, 3, D>(size);
            check::<2, 2, 0, D>(size);
            check::<4, 2, 1, D>(size);
            check::<3, 1, 1, D>(size);
            check::<3, 1, 0, D>(size);
        }
        all(Const::<3>);
        all(Const::<7>);
        all(Const::<8>);
        all(Const::<15>);
        all(Const::<28>);
        all(Const::<29>);
        all(Const::<33>);
        all(Const::<224>);
        all(Const::<255>);
        all(Const::<256>);
        all(Const::<511>);
        all(Const::<512>);
        all(65usize);
    }

    #[test]
    fn a_window_that_does_not_fit_is_an_error() {
        let err = ConvDim::<5, 1, 0, 1>::conv(&4usize)
            .unwrap_err()
            .to_string();
        assert!(
            err.contains("expected at least 5") && err.contains("found 4"),
            "{err}"
        );
        assert_eq!(window_count(8, 3, 0, 1, 1), None);
        assert_eq!(window_count(4, 3, 1, usize::MAX / 2 + 1, 1), None);
        assert_eq!(window_count(4, usize::MAX, 1, 0, 2), None);
        let err = ConvDim::<3, 0, 0, 1>::conv(&4usize).unwrap_err();
        assert!(err.to_string().contains("stride = 0"), "{err}");
    }
}
