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

impl Parameterization {
    /// `eps`, `x0` or `v`
    pub fn name(self) -> &'static str {
        match self {
            Self::Eps => "eps",
            Self::X0 => "x0",
            Self::V => "v",
        }
    }
}

impl fmt::Display for Parameterization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Parameterization {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let named = |one: &Self| one.name() == name;
        let found = [Self::Eps, Self::X0, Self::V].into_iter().find(named);
        found.ok_or_else(|| Error::parameter("parameterization", name, "eps, x0 or v"))
    }
}

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
