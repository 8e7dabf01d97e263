//! The data set that comes with the crate's sources.

use std::path::Path;

use super::dataset::ImageDataset;
use super::fashion_mnist;
use crate::error::DataError;
use crate::error::Result;

/// Where `examples/make_bundled_data.rs` writes it.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/fashion_mnist_subset.zip");

/// A part of Fashion-MNIST, `(train, test)`: 6,000 and 1,000 images of 1x28x28, the same number of
/// each of the 10 classes.
///
/// Read from `data/` in the crate's source folder, as it was when the crate was compiled; see
/// `data/README.md` there for its licence.
///
/// ```
/// let (train, test) = ssprop::data::bundled()?;
/// assert_eq!((train.len(), test.len()), (6000, 1000));
/// assert_eq!(train.class_counts(), [600; 10]);
/// # Ok::<(), ssprop::Error>(())
/// ```
///
/// # Errors
/// [`DataError::NoBundledData`], which says how to make it, if the file is not there; other
/// [`DataError`]s if it is damaged.
pub fn bundled() -> Result<(ImageDataset, ImageDataset)> {
    read(Path::new(PATH))
}

fn read(path: &Path) -> Result<(ImageDataset, ImageDataset)> {
    if !path.is_file() {
        return Err(DataError::NoBundledData { path: path.into() }.into());
    }
    fashion_mnist(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_data_is_balanced_and_without_repeats() {
        let (train, test) = bundled().unwrap();
        assert_eq!(train.class_counts(), [600; 10]);
        assert_eq!(test.class_counts(), [100; 10]);
        assert_eq!(train.shape(), super::super::ImageShape::new(1, 28, 28));
        assert_eq!(train.class_names()[9], "Ankle boot");
        // The whole training set has mean 0.2860 and std 0.3530; a fair sample is near.
        let norm = super::super::Normalization::of(&train).unwrap();
        assert!((norm.mean()[0] - 0.286).abs() < 0.01, "{norm:?}");
        assert!((norm.std()[0] - 0.353).abs() < 0.01, "{norm:?}");
        let distinct = |data: &ImageDataset| {
            let images = (0..data.len()).map(|i| data.image(i).unwrap().into_owned());
            images.collect::<std::collections::HashSet<_>>().len()
        };
        assert_eq!((distinct(&train), distinct(&test)), (6000, 1000));
        // In no order of classes: a prefix has all of them.
        assert!(train.take(100).class_counts().iter().all(|&n| n > 0));
    }

    #[test]
    fn a_missing_file_says_how_to_make_it() {
        let m = read(Path::new("/nowhere/at/all.zip"))
            .unwrap_err()
            .to_string();
        assert!(
            m.contains("/nowhere/at/all.zip") && m.contains("--example make_bundled_data"),
            "{m}"
        );
    }
}
