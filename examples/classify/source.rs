//! The network that a checkpoint is of.

use std::path::Path;

use common::vit::ViT;
use ssprop::checkpoint::{load, load_average, read_metadata, save_for_pytorch, Metadata};
use ssprop::data::InputSpec;
use ssprop::inference::{Graph, ToGraph};
use ssprop::prelude::*;
use ssprop::Error;

/// A network in a file.
pub struct Source<'a> {
    pub path: &'a Path,
    /// Its name, as `train_classifier` and `resnet18_cifar` write it into the metadata.
    pub model: &'a str,
    pub input: &'a InputSpec,
    /// Where to write the weights for PyTorch.
    pub pytorch: Option<&'a Path>,
}

impl Source<'_> {
    /// What the network computes.
    ///
    /// # Errors
    /// [`Error::Format`] for a network that those have not, and the errors of [`load`].
    pub fn load(&self) -> ssprop::Result<Graph<f32>> {
        let &Self {
            path, model, input, ..
        } = self;
        let channels = input.shape.channels;
        // As many as a network of the trainers has logits.
        let logits = match input.classes.len() {
            _ if input.multi_label => 40,
            ..=10 => 10,
            11..=100 => 100,
            _ => 1000,
        };
        let layers = model
            .strip_prefix("CNN of ")
            .and_then(|rest| rest.strip_suffix(" layers"));
        let layers: Option<usize> = layers.and_then(|number| number.parse().ok());
        let unknown = || {
            Err(Error::Format {
            path: path.to_owned(),
            what: format!(
                "model {model:?} with {channels} channels and {} classes: no network of train_classifier or \
                 resnet18_cifar; --like names a checkpoint that says which it is",
                input.classes.len()
            ),
        })
        };
        macro_rules! load {
            ($Net:ty) => {
                self.load_as::<$Net>()
            };
        }
        macro_rules! resnet {
        ($Net:ident) => {
            match (channels, logits) {
                (1, 10) => load!($Net<10, 1>),
                (3, 10) => load!($Net<10, 3>),
                (3, 40) => load!($Net<40, 3>),
                (3, 100) => load!($Net<100, 3>),
                (3, 1000) => load!($Net<1000, 3>),
                _ => unknown(),
            }
        };
    }
        macro_rules! cnn {
        ($($layers:literal)*) => {
            match (layers, channels) {
                $(
                    (Some($layers), 1) => load!(Cnn<$layers, 10, 1>),
                    (Some($layers), 3) => load!(Cnn<$layers, 10, 3>),
                )*
                _ => unknown(),
            }
        };
    }
        match (model, input.shape.checked_len(), logits) {
            ("ResNet-18", ..) => resnet!(ResNet18),
            ("ResNet-26", ..) => resnet!(ResNet26),
            ("ResNet-34", ..) => resnet!(ResNet34),
            ("ResNet-50", ..) => resnet!(ResNet50),
            ("ViT", Some(784), 10) => load!(ViT<10, 1, 28>),
            ("ViT", Some(3072), 10) => load!(ViT<10, 3, 32>),
            ("ViT", Some(3072), 100) => load!(ViT<100, 3, 32>),
            ("MLP", Some(784), 10) => load!(MLP<10, 784>),
            ("MLP", Some(3072), 10) => load!(MLP<10, 3072>),
            ("MLP", Some(3072), 100) => load!(MLP<100, 3072>),
            _ => cnn!(2 3 4 5 6 7 8 9 10 11),
        }
    }

    /// A network of type `B`, with the average of the weights if the training kept one: it is what the trainer tests.
    fn load_as<B>(&self) -> ssprop::Result<Graph<f32>>
    where
        B: BuildOnDevice<Cpu, f32>,
        B::Built: ToGraph<f32> + TensorCollection<f32, Cpu>,
    {
        let mut network = B::build_on_device(&Cpu::default());
        match read_metadata(self.path)?.contains_key("ema_updates") {
            true => load_average(self.path, &mut network)?,
            false => load(self.path, &mut network)?,
        };
        if let Some(file) = self.pytorch {
            save_for_pytorch(file, &network, &Metadata::new())?;
        }
        Graph::of(&network)
    }
}
