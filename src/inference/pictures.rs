//! Picture files in, names of classes out.

use std::path::Path;

use dfdx::shapes::HasShape;
use dfdx::tensor::Tensor;
use rayon::prelude::*;

use super::{Graph, Inference};
use crate::backend::Backend;
use crate::bridge::{upload, values};
use crate::data::InputSpec;
use crate::error::{Error, Result};

/// A trained classifier for picture files of any size.
///
/// ```
/// use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
/// use ssprop::inference::{Graph, PictureClassifier};
/// use ssprop::prelude::*;
///
/// let dev = Cpu::default();
/// let net = dev.build_module::<Cnn<2, 10, 1>, f32>();
/// # let data = ImageDataset::new(vec![0; 784], vec![1], ImageShape::new(1, 28, 28), 10)?;
/// # let loader = BatchLoader::new(&data, 1)?;
/// // Of the loader that it was trained with, or from a checkpoint: `metadata["input"].parse()?`.
/// let input = loader.input_spec();
/// let graph = Graph::of(&net)?.fold_batch_norms();
/// let classifier = PictureClassifier::new(&dev, &graph, input)?;
/// for guesses in classifier.classify(&["shoe.jpg"])? {
///     match guesses {
///         Ok(guesses) => println!("{}: {:.0}%", guesses[0].name, 100.0 * guesses[0].probability),
///         Err(err) => println!("{err}"), // There is no such picture.
///     }
/// }
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Debug)]
pub struct PictureClassifier<D: Backend<f32>> {
    dev: D,
    network: Inference<f32, D>,
    input: InputSpec,
}

/// A class that a picture may be of, or an attribute that it may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// Its label.
    pub class: usize,
    /// Its name.
    pub name: String,
    /// How probable the classifier finds it, in 0..=1: the softmax over the classes, or of an attribute the
    /// sigmoid.
    pub probability: f64,
}

impl<D: Backend<f32>> PictureClassifier<D> {
    /// Of a network, and what it was trained on. Logits beyond the classes of `input` are left aside.
    ///
    /// # Errors
    /// Those of [`Inference::new`]; [`Error::Shape`] if the network does not take such input, or has fewer logits
    /// than classes.
    pub fn new(dev: &D, network: &Graph<f32>, input: InputSpec) -> Result<Self> {
        let this = Self {
            dev: dev.clone(),
            network: Inference::new(dev, network)?,
            input,
        };
        // Says what does not fit before there is a picture.
        let shape = this.input.shape;
        this.logits(&vec![0.0; shape.image_len()?], 1)?;
        Ok(this)
    }

    /// What its input is, and its classes' names.
    pub fn input(&self) -> &InputSpec {
        &self.input
    }

    /// The guesses for a batch of pictures, of each the most probable first, or what is wrong with the file.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    pub fn classify<P: AsRef<Path> + Sync>(
        &self,
        pictures: &[P],
    ) -> Result<Vec<Result<Vec<Guess>>>> {
        let spec = &self.input;
        let inputs: Vec<Result<Vec<f32>>> =
            pictures.par_iter().map(|path| spec.read(path)).collect();
        let whole: Vec<f32> = inputs.iter().flatten().flatten().copied().collect();
        let images = inputs.iter().flatten().count();
        let mut logits = self.logits(&whole, images)?.into_iter();
        let guesses = inputs
            .into_iter()
            .map(|input| input.map(|_| self.guesses(&logits.next().unwrap_or_default())));
        Ok(guesses.collect())
    }

    /// The logits of each of a number of images.
    fn logits(&self, images: &[f32], count: usize) -> Result<Vec<Vec<f32>>> {
        let shape = self.input.shape;
        let sizes = (count, shape.channels, shape.height, shape.width);
        let x = upload(&self.dev, sizes, images)?;
        let logits: Tensor<(usize, usize), f32, D> = self.network.run(&x)?;
        let outputs = logits.shape().1;
        let classes = self.input.classes.len();
        if outputs < classes {
            let what = "logits of the network";
            let expected = format_args!("at least {classes}");
            return Err(Error::shape("PictureClassifier", what, expected, outputs));
        }
        let rows = values(&logits);
        let rows = rows.chunks_exact(outputs.max(1));
        Ok(rows.map(|row| row[..classes].to_vec()).collect())
    }

    fn guesses(&self, logits: &[f32]) -> Vec<Guess> {
        let logits = logits.iter().map(|&logit| f64::from(logit));
        let probabilities: Vec<f64> = if self.input.multi_label {
            logits.map(|logit| 1.0 / (1.0 + (-logit).exp())).collect()
        } else {
            let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
            let parts: Vec<f64> = logits.map(|logit| (logit - largest).exp()).collect();
            let sum: f64 = parts.iter().sum();
            parts.into_iter().map(|part| part / sum).collect()
        };
        let names = self.input.classes.iter().zip(probabilities).enumerate();
        let mut guesses: Vec<Guess> = names
            .map(|(class, (name, probability))| Guess {
                class,
                name: name.clone(),
                probability,
            })
            .collect();
        guesses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        guesses
    }
}
