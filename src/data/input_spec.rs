//! What a classifier was trained on, as one has to know who wants to use it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde_json::{json, Value};

use super::dataset::{ImageShape, Scratch};
use super::fit::Fit;
use super::loader::BatchLoader;
use super::normalization::Normalization;
use super::picture::decode;
use super::plan::normalize;
use crate::error::{DataError, Error, FileName, Result};

/// How pictures become a classifier's input, and what its classes are called: what there is to know beside
/// its weights. [`BatchLoader::input_spec`] has that of a training.
///
/// As text it is JSON, for a checkpoint's metadata:
///
/// ```
/// use ssprop::data::{BatchLoader, ImageDataset, ImageShape, InputSpec};
///
/// let data = ImageDataset::new(vec![0; 28 * 28], vec![1], ImageShape::new(1, 28, 28), 2)?
///     .with_class_names(["bag", "coat"])?;
/// let spec = BatchLoader::new(&data, 1)?.fit_to(ImageShape::new(3, 32, 32))?.input_spec();
/// assert_eq!(spec.to_string().parse::<InputSpec>()?, spec);
/// assert_eq!(spec.classes, ["bag", "coat"]);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// The size of the network's input.
    pub shape: ImageShape,
    /// The size that a picture is resized to. If it is smaller than `shape` there is black around it, and a single
    /// channel is repeated ([`BatchLoader::fit_to`]).
    pub image: ImageShape,
    /// Which part of a picture that is.
    pub fit: Fit,
    /// The share of each side of that part which is kept, in the middle.
    pub share: f64,
    /// Of the channels of `image`.
    pub normalization: Normalization,
    /// The names of the classes or attributes, by label; numbers if they have none.
    pub classes: Vec<String>,
    /// Whether an image has any number of attributes, instead of one class.
    pub multi_label: bool,
}

impl InputSpec {
    /// The network's input (C, H, W) for a picture file (JPEG or PNG) of any size. Of a coloured picture a network
    /// for grey ones gets the luminance, (299 R + 587 G + 114 B) / 1000.
    ///
    /// # Errors
    /// [`DataError::Io`] for a file that cannot be read, [`DataError::Picture`] for one that is no picture, or
    /// damaged.
    pub fn read(&self, picture: impl AsRef<Path>) -> Result<Vec<f32>> {
        let path = picture.as_ref();
        let mut bytes = std::fs::read(path).map_err(|source| DataError::Io {
            file: FileName::of(path),
            offset: 0,
            source,
        })?;
        let mut scratch = Scratch::default();
        let picture = decode(&mut bytes, &mut scratch.pixels);
        let picture = picture.map_err(|message| DataError::Picture {
            file: FileName::of(path),
            message,
        })?;
        let to = (self.image.height, self.image.width);
        let region = self.fit.region(picture.width, picture.height, self.share);
        let (pixels, width, resizer) = (picture.pixels, picture.width, &mut scratch.resizer);
        let mut planes = vec![0; picture.channels * to.0 * to.1];
        match picture.channels {
            1 => resizer.resize::<1>(pixels, width, region, to, &mut planes),
            _ => resizer.resize::<3>(pixels, width, region, to, &mut planes),
        }
        let image = match (picture.channels, self.image.channels) {
            (1, channels) => planes.repeat(channels),
            (_, 1) => luminance(&planes),
            _ => planes,
        };
        let mut input = Vec::new();
        let tables = self.normalization.tables();
        normalize(&tables, self.image, self.shape, &image, &mut input);
        Ok(input)
    }

    /// That its parts fit together.
    fn check(self) -> Result<Self> {
        self.shape.image_len()?;
        self.image.image_len()?;
        let channels = self.image.channels;
        let fits = [1, self.shape.channels].contains(&channels)
            && self.image.height <= self.shape.height
            && self.image.width <= self.shape.width
            && [1, 3].contains(&channels);
        if !fits {
            return Err(Error::parameter(
                "image",
                format_args!("{} in {}", self.image, self.shape),
                "at most as large as the network's input, with 1 channel, or 3 as that",
            ));
        }
        if self.normalization.channels() != channels {
            let found = self.normalization.channels();
            return Err(Error::shape(
                "InputSpec",
                "channels of mean and std",
                channels,
                found,
            ));
        }
        if !(self.share > 0.0 && self.share <= 1.0) {
            return Err(Error::parameter("share", self.share, "in 0..=1, and not 0"));
        }
        if self.classes.is_empty() {
            return Err(Error::parameter("classes", "[]", "one name at least"));
        }
        Ok(self)
    }
}

/// A grey plane of a red, a green and a blue one.
fn luminance(planes: &[u8]) -> Vec<u8> {
    let (red, others) = planes.split_at(planes.len() / 3);
    let (green, blue) = others.split_at(red.len());
    let colours = red.iter().zip(green).zip(blue);
    let grey = colours.map(|((&r, &g), &b)| {
        let sum = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
        ((sum + 500) / 1000) as u8
    });
    grey.collect()
}

impl BatchLoader {
    /// How its data set's images become a network's input, and the names of their classes. (Augmentation is no
    /// part of it.)
    pub fn input_spec(&self) -> InputSpec {
        let (data, normalization, shape) = self.parts();
        InputSpec {
            shape,
            image: data.shape(),
            fit: data.fit(),
            share: data.share(),
            normalization: normalization.clone(),
            classes: match data.class_names() {
                [] => (0..data.classes()).map(|class| class.to_string()).collect(),
                names => names.to_vec(),
            },
            multi_label: data.is_multi_label(),
        }
    }
}

fn sizes(shape: ImageShape) -> [usize; 3] {
    [shape.channels, shape.height, shape.width]
}

impl fmt::Display for InputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = json!({
            "shape": sizes(self.shape),
            "image": sizes(self.image),
            "fit": self.fit.to_string(),
            "share": self.share,
            "mean": self.normalization.mean(),
            "std": self.normalization.std(),
            "classes": self.classes,
            "multi_label": self.multi_label,
        });
        value.fmt(f)
    }
}

impl FromStr for InputSpec {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] and [`Error::Shape`] for the first part that is missing or does not fit.
    fn from_str(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text)
            .map_err(|err| Error::parameter("input", err, "JSON, as InputSpec is written"))?;
        let wrong = |key: &'static str, range| Error::parameter(key, &json[key], range);
        let list = |key: &'static str| {
            let list = json[key].as_array().map(Vec::as_slice);
            list.ok_or_else(|| wrong(key, "a list"))
        };
        let shape = |key: &'static str| -> Result<ImageShape> {
            let sizes = list(key)?.iter().map(|size| size.as_u64()?.try_into().ok());
            match sizes.collect::<Option<Vec<usize>>>().as_deref() {
                Some(&[c, h, w]) => Ok(ImageShape::new(c, h, w)),
                _ => Err(wrong(key, "[channels, height, width]")),
            }
        };
        let numbers = |key: &'static str| -> Result<Vec<f32>> {
            let numbers = list(key)?.iter().map(|x| x.as_f64().map(|x| x as f32));
            let numbers = numbers.collect::<Option<Vec<f32>>>();
            numbers.ok_or_else(|| wrong(key, "a list of numbers"))
        };
        let names = list("classes")?
            .iter()
            .map(|name| name.as_str().map(str::to_owned));
        let names = names.collect::<Option<Vec<String>>>();
        let spec = Self {
            shape: shape("shape")?,
            image: shape("image")?,
            fit: json["fit"]
                .as_str()
                .ok_or_else(|| wrong("fit", "squeeze or square"))?
                .parse()?,
            share: json["share"]
                .as_f64()
                .ok_or_else(|| wrong("share", "a number"))?,
            normalization: Normalization::new(numbers("mean")?, numbers("std")?)?,
            classes: names.ok_or_else(|| wrong("classes", "a list of names"))?,
            multi_label: json["multi_label"]
                .as_bool()
                .ok_or_else(|| wrong("multi_label", "true or false"))?,
        };
        spec.check()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, ImageDataset};
    use super::*;

    fn spec() -> InputSpec {
        InputSpec {
            shape: ImageShape::new(3, 32, 32),
            image: ImageShape::new(1, 28, 28),
            fit: Fit::Squeeze,
            share: 0.875,
            normalization: Normalization::new(vec![0.286], vec![0.353]).unwrap(),
            classes: vec!["Ankle \"boot\"".into(), "bag".into()],
            multi_label: true,
        }
    }

    #[test]
    fn text_and_back() {
        let text = spec().to_string();
        assert_eq!(text.parse::<InputSpec>().unwrap(), spec());
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let json: Value = serde_json::from_str(&spec().to_string()).unwrap();
        for (key, value, says) in [
            ("shape", json!([3, 32]), "[channels, height, width]"),
            ("shape", json!([3, 27, 32]), "1x28x28 in 3x27x32"),
            ("shape", json!([0, 32, 32]), "at least 1 in each size"),
            ("image", json!([2, 28, 28]), "2x28x28 in 3x32x32"),
            ("image", json!([3, 28, 28]), "channels of mean and std"),
            ("mean", json!("x"), "mean = \"x\""),
            ("std", json!([0.0]), "std = 0"),
            ("fit", json!("crop"), "squeeze or square"),
            ("fit", json!(2), "fit = 2"),
            ("share", json!(0), "share = 0"),
            ("share", json!("0.5"), "share = \"0.5\": must be a number"),
            ("multi_label", json!(null), "multi_label = null"),
            ("classes", json!([1]), "a list of names"),
            ("classes", json!([]), "one name at least"),
        ] {
            let mut json = json.clone();
            json[key] = value;
            let m = json
                .to_string()
                .parse::<InputSpec>()
                .unwrap_err()
                .to_string();
            assert!(m.contains(says), "{key}: {m}");
        }
        let m = "{".parse::<InputSpec>().unwrap_err().to_string();
        assert!(m.contains("JSON"), "{m}");
    }

    /// A picture that is saved as a file comes back as the loader makes it.
    #[test]
    fn a_picture_is_read_as_it_was_in_training() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let pixels: Vec<u8> = (0..28 * 28).map(|i| (i * i % 251) as u8).collect();
        image::save_buffer(&path, &pixels, 28, 28, image::ExtendedColorType::L8).unwrap();
        let data = ImageDataset::new(pixels, vec![0], ImageShape::new(1, 28, 28), 1).unwrap();
        let loader = BatchLoader::new(&data, 1).unwrap();
        let loader = loader.normalize(Normalization::of(&data).unwrap()).unwrap();
        let loader = loader.fit_to(ImageShape::new(3, 32, 32)).unwrap();
        let batch: Batch = loader.epoch(0).next().unwrap().unwrap();
        assert_eq!(loader.input_spec().read(&path).unwrap(), batch.images());
    }

    #[test]
    fn colours_become_grey_and_grey_all_colours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let colour = [200u8, 100, 50].repeat(40 * 30);
        image::save_buffer(&path, &colour, 40, 30, image::ExtendedColorType::Rgb8).unwrap();
        let grey = InputSpec {
            normalization: Normalization::unit(1),
            ..spec()
        };
        let input = grey.read(&path).unwrap();
        assert_eq!(input.len(), 3 * 32 * 32);
        // 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
        assert_eq!(input[16 * 32 + 16], 124.0 / 255.0);
        assert_eq!(input[0], 0.0);
        let coloured = InputSpec {
            image: ImageShape::new(3, 32, 32),
            normalization: Normalization::unit(3),
            ..spec()
        };
        let input = coloured.read(&path).unwrap();
        let found = [0, 1, 2].map(|c| input[c * 32 * 32 + 40]);
        assert_eq!(found, [200.0 / 255.0, 100.0 / 255.0, 50.0 / 255.0]);
    }

    #[test]
    fn what_is_no_picture_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        std::fs::write(&path, "GIF89a").unwrap();
        let m = spec().read(&path).unwrap_err().to_string();
        assert!(m.contains("a.jpg") && m.contains("GIF"), "{m}");
        let m = spec()
            .read(folder.path().join("b.jpg"))
            .unwrap_err()
            .to_string();
        assert!(m.contains("b.jpg"), "{m}");
    }
}
