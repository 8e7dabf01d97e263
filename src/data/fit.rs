//! Which part of a picture an image is made of.

use std::fmt;
use std::str::FromStr;

use super::picture::Region;
use crate::error::{Error, Result};

/// What becomes of a picture file whose proportions are not those of the data set's images.
///
/// ```
/// use ssprop::data::Fit;
///
/// assert_eq!("squeeze".parse::<Fit>()?, Fit::Squeeze);
/// assert_eq!(Fit::Square.to_string(), "square");
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Fit {
    /// `squeeze`: all of it, height and width each resized by a factor of its own. Nothing is lost,
    /// proportions change. So does arXiv 2408.12561 with CelebA and ImageNet.
    Squeeze,
    /// `square`: the square in its middle. Proportions stay, the ends of the longer side are lost.
    #[default]
    Square,
}

impl Fit {
    /// The part in the middle, with `share` of each side that is kept.
    pub(super) fn region(self, width: usize, height: usize, share: f64) -> Region {
        let part = |side: usize| ((side as f64 * share).round() as usize).clamp(1, side);
        let (part_width, part_height) = match self {
            Self::Squeeze => (part(width), part(height)),
            Self::Square => (part(width.min(height)), part(width.min(height))),
        };
        Region {
            left: (width - part_width) / 2,
            top: (height - part_height) / 2,
            width: part_width,
            height: part_height,
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Squeeze => "squeeze",
            Self::Square => "square",
        })
    }
}

impl FromStr for Fit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = [Self::Squeeze, Self::Square]
            .into_iter()
            .find(|fit| fit.to_string() == name);
        found.ok_or_else(|| Error::parameter("fit", name, "squeeze or square"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_lie_in_the_middle() {
        let of = |fit: Fit, share| {
            let region = fit.region(178, 218, share);
            [region.left, region.top, region.width, region.height]
        };
        assert_eq!(of(Fit::Squeeze, 1.0), [0, 0, 178, 218]);
        assert_eq!(of(Fit::Square, 1.0), [0, 20, 178, 178]);
        // 224 of 256, of each side.
        assert_eq!(of(Fit::Squeeze, 0.875), [11, 13, 156, 191]);
        assert_eq!(of(Fit::Square, 0.875), [11, 31, 156, 156]);
        let region = Fit::Square.region(90, 30, 1.0);
        assert_eq!((region.left, region.width), (30, 30));
        assert_eq!(Fit::Squeeze.region(1, 9, 0.01).width, 1);
        assert!("crop".parse::<Fit>().is_err());
    }
}
