//! Distances of an output from its target.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What is averaged over all elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Distance {
    /// |output - target|
    L1,
    /// (output - target)^2
    #[default]
    L2,
}

impl Distance {
    /// `l1` or `l2`
    pub fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Distance {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let named = |one: &Self| one.name() == name;
        let found = [Self::L1, Self::L2].into_iter().find(named);
        found.ok_or_else(|| Error::parameter("loss", name, "l1 or l2"))
    }
}
