//! How near generated images come to real ones: the Fréchet distance of their features.
//!
//! A network that was trained to tell the real images' classes apart gives each image a row of
//! features ([`FeatureExtractor`]); a set of images then has their mean and covariance
//! ([`FeatureStatistics`]), and two sets are as far apart as two normal distributions with these
//! ([`frechet_distance`]). With the Inception network that is the Fréchet Inception distance (FID)
//! of M. Heusel et al., *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
//! Equilibrium* (arXiv 1706.08500). With any other network the numbers compare with each other, but
//! not with Inception's; nor do numbers from different counts of images compare, since few images
//! make the distance larger.
//!
//! ```
//! use ssprop::data::{BatchLoader, ImageDataset, ImageShape, Normalization};
//! use ssprop::eval::{frechet_distance, statistics_of};
//! use ssprop::prelude::*;
//!
//! let pixels = |from: u8| (0..8 * 64).map(|i| from.wrapping_add((i * i / 7) as u8)).collect();
//! let set = |from| ImageDataset::new(pixels(from), vec![0; 8], ImageShape::new(1, 8, 8), 1);
//! let (real, generated) = (set(0)?, set(40)?);
//!
//! let dev = Cpu::seed_from_u64(0);
//! let net = dev.build_module::<Cnn<2, 10, 1>, f32>();
//! let statistics = |data| {
//!     let loader = BatchLoader::new(data, 4)?.normalize(Normalization::symmetric(1))?;
//!     statistics_of::<1, 8, 8, _, _>(&net, &dev, &loader)
//! };
//! let distance = frechet_distance(&statistics(&real)?, &statistics(&generated)?)?;
//! assert!(distance > 0.0);
//! # Ok::<(), ssprop::Error>(())
//! ```

mod features;
mod frechet;
mod statistics;

pub use features::{statistics_of, statistics_of_pixels, FeatureExtractor};
pub use frechet::frechet_distance;
pub use statistics::FeatureStatistics;
