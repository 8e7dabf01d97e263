//! The features of images.

use dfdx::shapes::Const;
use dfdx::tensor::NoneTape;

use super::statistics::FeatureStatistics;
use crate::backend::Backend;
use crate::bridge::values;
use crate::data::{BatchLoader, ImageShape};
use crate::error::{Error, Result};
use crate::models::{modules, Halves};
use crate::train::Images;

/// A network that gives each image of C x H x W a row of features.
pub trait FeatureExtractor<const C: usize, const H: usize, const W: usize, D: Backend<f32>> {
    /// Features of an image.
    const DIM: usize;

    /// The features of images (B, C, H, W): rows of a matrix (B, [`DIM`](Self::DIM)). Those of an
    /// image do not depend on the others'.
    ///
    /// # Errors
    /// Those of the network.
    fn extract(&self, images: Images<C, H, W, D, NoneTape>) -> Result<Vec<f32>>;
}

/// The features are those of [`Cnn::features`](modules::Cnn::features).
impl<
        const LAYERS: usize,
        const CLASSES: usize,
        const C: usize,
        const H: usize,
        const W: usize,
        D: Backend<f32>,
    > FeatureExtractor<C, H, W, D> for modules::Cnn<LAYERS, CLASSES, C, f32, D>
where
    Const<H>: Halves<Half: Halves>,
    Const<W>: Halves<Half: Halves>,
{
    const DIM: usize = Self::FEATURES;

    fn extract(&self, images: Images<C, H, W, D, NoneTape>) -> Result<Vec<f32>> {
        Ok(values(&self.features(images)?))
    }
}

/// The statistics of the features of all images of `loader`, whose normalisation has to be the one
/// that the network was trained with.
///
/// # Errors
/// As [`Batch::image_tensor`](crate::data::Batch::image_tensor) and [`FeatureStatistics::push`], and
/// those of the network.
pub fn statistics_of<const C: usize, const H: usize, const W: usize, M, D>(
    model: &M,
    dev: &D,
    loader: &BatchLoader,
) -> Result<FeatureStatistics>
where
    M: FeatureExtractor<C, H, W, D>,
    D: Backend<f32>,
{
    let mut statistics = FeatureStatistics::new(M::DIM)?;
    for batch in loader.epoch(0) {
        statistics.push(&model.extract(batch?.image_tensor(dev)?)?)?;
    }
    Ok(statistics)
}

/// The statistics of the features of images that are normalised already, (N, C, H, W), computed
/// `batch_size` images at a time: of samples of a generative model.
///
/// # Errors
/// [`Error::Shape`] if they are not whole images, [`Error::Parameter`] for batches of 0, as
/// [`FeatureStatistics::push`], and those of the network.
pub fn statistics_of_pixels<const C: usize, const H: usize, const W: usize, M, D>(
    model: &M,
    dev: &D,
    images: &[f32],
    batch_size: usize,
) -> Result<FeatureStatistics>
where
    M: FeatureExtractor<C, H, W, D>,
    D: Backend<f32>,
{
    let shape = ImageShape::new(C, H, W);
    let len = shape.image_len()?;
    if !images.len().is_multiple_of(len) {
        return Err(Error::shape(
            "statistics_of_pixels",
            "number of values",
            format_args!("a whole number of images of {shape}"),
            images.len(),
        ));
    }
    let batch_len = match batch_size.saturating_mul(len) {
        0 => return Err(Error::parameter("batch_size", 0, "at least 1")),
        batch_len => batch_len,
    };
    let mut statistics = FeatureStatistics::new(M::DIM)?;
    for batch in images.chunks(batch_len) {
        let mut x: Images<C, H, W, D, NoneTape> = dev
            .try_zeros_like(&(batch.len() / len, Const, Const, Const))
            .map_err(Error::device)?;
        x.copy_from(batch);
        statistics.push(&model.extract(x)?)?;
    }
    Ok(statistics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ImageDataset, Normalization};
    use crate::prelude::*;

    #[test]
    fn a_loader_and_its_pixels_have_the_same_statistics() {
        let pixels = (0..7 * 30).map(|i| (i * i % 251) as u8).collect();
        let data = ImageDataset::new(pixels, vec![0; 7], ImageShape::new(1, 5, 6), 1).unwrap();
        let loader = |size| {
            let loader = BatchLoader::new(&data, size).unwrap();
            let loader = loader.normalize(Normalization::symmetric(1)).unwrap();
            loader.fit_to(ImageShape::new(1, 8, 8)).unwrap()
        };
        let dev = Cpu::seed_from_u64(5);
        let net = dev.build_module::<Cnn<2, 10, 1>, f32>();
        let of = |size| statistics_of::<1, 8, 8, _, _>(&net, &dev, &loader(size)).unwrap();
        let wanted = of(7);
        assert_eq!((wanted.count(), wanted.dim()), (7, 128));
        assert!(wanted.mean().iter().any(|&mean| mean > 0.0));
        let all: Vec<f32> = loader(7)
            .epoch(0)
            .next()
            .unwrap()
            .unwrap()
            .images()
            .to_vec();
        for size in [1, 3, 100] {
            assert_eq!(of(size), wanted);
            let found = statistics_of_pixels::<1, 8, 8, _, _>(&net, &dev, &all, size).unwrap();
            assert_eq!(found, wanted);
        }
        let of = |images, size| {
            let found = statistics_of_pixels::<1, 8, 8, _, _>(&net, &dev, images, size);
            found.unwrap_err().to_string()
        };
        let m = of(&all[1..], 2);
        assert!(m.contains("1x8x8") && m.contains("447"), "{m}");
        assert!(of(&all, 0).contains("batch_size"));
        let m = of(&[f32::NAN; 64], 1);
        assert!(m.contains("feature"), "{m}");
    }

    #[test]
    fn logits_are_those_of_the_features() {
        let dev = Cpu::seed_from_u64(6);
        let net = dev.build_module::<Cnn<3, 4, 1>, f32>();
        let x: Tensor<Rank4<5, 1, 9, 12>, f32, _> = dev.sample_normal();
        let features = net.features(x.clone()).unwrap();
        let _: &Rank2<5, 128> = features.shape();
        // By dfdx's product here, by ours there: equal but for rounding.
        let expected = net.linear.forward(features).as_vec();
        for (found, expected) in net.forward(x).as_vec().iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}
