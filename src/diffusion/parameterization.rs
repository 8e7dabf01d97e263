//! What a network predicts of a noised image, and how its error is measured.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What the network's output stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Parameterization {
    /// `eps`: the noise ([arXiv 2006.11239](https://arxiv.org/abs/2006.11239), Eq. 14).
    #[default]
    Eps,
    /// `x0`: the image.
    X0,
    /// `v`: sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) image
    /// ([arXiv 2202.00512](https://arxiv.org/abs/2202.00512), Section 4).
    V,
}

/// The distance of the network's output from its target, a mean over all elements: `l1` or `l2`.
pub use crate::ops::distance::Distance as Loss;

macro_rules! names {
    ($type:ident, $what:literal, $choices:literal: $($variant:ident $name:literal),*) => {
        impl $type {
            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(Error::parameter($what, name, $choices)),
                }
            }
        }
    };
}
names!(Parameterization, "parameterization", "eps, x0 or v": Eps "eps", X0 "x0", V "v");
names!(Loss, "loss", "l1 or l2": L1 "l1", L2 "l2");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_refused() {
        for one in [
            Parameterization::Eps,
            Parameterization::X0,
            Parameterization::V,
        ] {
            assert_eq!(one.to_string().parse::<Parameterization>().unwrap(), one);
        }
        for one in [Loss::L1, Loss::L2] {
            assert_eq!(one.to_string().parse::<Loss>().unwrap(), one);
        }
        let err = "l3".parse::<Loss>().unwrap_err().to_string();
        assert!(err.contains("l3") && err.contains("l1 or l2"), "{err}");
    }
}
