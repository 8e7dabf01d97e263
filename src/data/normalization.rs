//! Per-channel normalisation of pixels.

use super::dataset::ImageDataset;
use crate::error::{Error, Result};

/// Per-channel normalisation: a pixel `p` in 0..=255 of channel `c` becomes
/// (p / 255 - mean\[c\]) / std\[c\].
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalization {
    /// With the given mean and standard deviation of each channel, in units of p / 255.
    ///
    /// # Errors
    /// [`Error::Shape`] if the two have different lengths, [`Error::Parameter`] if a mean is not
    /// finite or a standard deviation is not a positive normal number.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self> {
        if mean.len() != std.len() {
            return Err(Error::shape(
                "Normalization::new",
                "channels of std",
                mean.len(),
                std.len(),
            ));
        }
        if let Some(bad) = mean.iter().find(|m| !m.is_finite()) {
            return Err(Error::parameter("mean", bad, "finite"));
        }
        if let Some(bad) = std.iter().find(|s| !(s.is_normal() && **s > 0.0)) {
            return Err(Error::parameter("std", bad, "positive and finite"));
        }
        Ok(Self { mean, std })
    }

    /// The mean and the (population) standard deviation of each channel of `data`.
    ///
    /// A channel without variance, and every channel of an empty data set, has standard deviation
    /// 1 (and mean 0 if the data set is empty). The sums are integers, so exact.
    ///
    /// ```
    /// use ssprop::data::{ImageDataset, ImageShape, Normalization};
    ///
    /// let data = ImageDataset::new(vec![0, 255], vec![0, 0], ImageShape::new(1, 1, 1), 1)?;
    /// let norm = Normalization::of(&data)?;
    /// assert_eq!((norm.mean(), norm.std()), (&[0.5][..], &[0.5][..]));
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ImageDataset::image`], for a data set whose images are decoded from files: all of them.
    pub fn of(data: &ImageDataset) -> Result<Self> {
        let shape = data.shape();
        let plane = shape.height * shape.width;
        let mut sums = vec![(0u64, 0u64); shape.channels];
        for index in 0..data.len() {
            let image = data.image(index)?;
            for (pixels, (sum, squares)) in image.chunks_exact(plane).zip(&mut sums) {
                for &p in pixels {
                    *sum += u64::from(p);
                    *squares += u64::from(p) * u64::from(p);
                }
            }
        }
        let n = (data.len() * plane).max(1);
        let mut this = Self::unit(shape.channels);
        for (c, &(sum, squares)) in sums.iter().enumerate() {
            this.mean[c] = (sum as f64 / n as f64 / 255.0) as f32;
            // n^2 times the variance, exactly: 0 for a constant channel.
            let spread = n as u128 * u128::from(squares) - u128::from(sum).pow(2);
            if spread > 0 {
                this.std[c] = ((spread as f64).sqrt() / n as f64 / 255.0) as f32;
            }
        }
        Ok(this)
    }

    /// The given constants, which fit each other.
    pub(super) fn constant(mean: &[f32], std: &[f32]) -> Self {
        Self {
            mean: mean.to_vec(),
            std: std.to_vec(),
        }
    }

    /// Mean 0 and standard deviation 1: pixels become 0..=1.
    pub fn unit(channels: usize) -> Self {
        Self {
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
        }
    }

    /// Mean 1/2 and standard deviation 1/2: pixels become -1..=1, as diffusion models want them.
    pub fn symmetric(channels: usize) -> Self {
        Self {
            mean: vec![0.5; channels],
            std: vec![0.5; channels],
        }
    }

    /// The mean of each channel.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviation of each channel.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// The normalised values of the 256 pixel values, for each channel.
    pub(super) fn tables(&self) -> Vec<[f32; 256]> {
        let table =
            |(&mean, &std): (&f32, &f32)| std::array::from_fn(|p| (p as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(table).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::dataset::ImageShape;
    use super::*;

    #[test]
    fn mean_and_std_by_channel() {
        // Two images of 2x1x2; channel 0 has 0 51 102 153, channel 1 has 255 four times.
        let images = vec![0, 51, 255, 255, 102, 153, 255, 255];
        let data = ImageDataset::new(images, vec![0, 0], ImageShape::new(2, 1, 2), 1).unwrap();
        let norm = Normalization::of(&data).unwrap();
        let std = (0.05f64).sqrt() as f32; // variance of 0, 0.2, 0.4, 0.6
        assert!((norm.mean()[0] - 0.3).abs() < 1e-6 && (norm.std()[0] - std).abs() < 1e-6);
        assert_eq!((norm.mean()[1], norm.std()[1]), (1.0, 1.0));
        let t = norm.tables();
        assert!((t[0][51] - (0.2 - 0.3) / std).abs() < 1e-6);
        assert_eq!(t[1][255], 0.0);
        assert_eq!(
            Normalization::of(&data.take(0)).unwrap(),
            Normalization::unit(2),
            "an empty data set"
        );
    }

    #[test]
    fn given_values_are_checked() {
        assert!(Normalization::new(vec![0.5], vec![0.25]).is_ok());
        assert!(Normalization::new(vec![0.5], vec![]).is_err());
        assert!(Normalization::new(vec![f32::NAN], vec![1.0]).is_err());
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
            let m = Normalization::new(vec![0.0], vec![bad]).unwrap_err();
            assert!(m.to_string().starts_with("std = "), "{m}");
        }
    }

    #[test]
    fn symmetric_is_minus_one_to_one() {
        let t = Normalization::symmetric(3).tables();
        assert_eq!((t.len(), t[2][0], t[2][255]), (3, -1.0, 1.0));
    }
}
