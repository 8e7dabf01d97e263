//! The networks, each of a type of its own, behind one trait without type parameters.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use dfdx::nn::BuildOnDevice;
use ssprop::checkpoint::{self, Metadata};
use ssprop::data::{BatchLoader, Task};
use ssprop::models::builders;
use ssprop::nn::{Layers, ModelCost};
use ssprop::prelude::*;
use ssprop::train::ImageClassifier;
use ssprop::Error;

use crate::any_size::AnySize;

/// A network in training.
pub trait Network {
    /// Epochs done.
    fn epoch(&self) -> u64;
    fn train_epoch(
        &mut self,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> ssprop::Result<EpochReport>;
    fn evaluate(&self, loader: &BatchLoader) -> ssprop::Result<Evaluation>;
    /// The network, its optimizer's state and the number of epochs done.
    fn save(&self, path: &Path, metadata: &Metadata) -> ssprop::Result<()>;
    /// Goes back to what [`save`](Self::save) saved.
    fn resume(&mut self, path: &Path) -> ssprop::Result<Metadata>;
    /// The network alone, from any checkpoint of it.
    fn load(&mut self, path: &Path) -> ssprop::Result<Metadata>;
    /// What its backward pass costs.
    fn cost(&mut self) -> ssprop::Result<ModelCost>;
}

/// A network of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    ResNet18,
    ResNet26,
    ResNet34,
    ResNet50,
    /// Of this many convolutions.
    Cnn(usize),
    Mlp,
}

/// The depths of the CNN.
pub const DEPTHS: RangeInclusive<usize> = 2..=11;

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResNet18 => f.write_str("ResNet-18"),
            Self::ResNet26 => f.write_str("ResNet-26"),
            Self::ResNet34 => f.write_str("ResNet-34"),
            Self::ResNet50 => f.write_str("ResNet-50"),
            Self::Cnn(layers) => write!(f, "CNN of {layers} layers"),
            Self::Mlp => f.write_str("MLP"),
        }
    }
}

/// How a network is trained.
#[derive(Clone, Debug)]
pub struct Settings {
    pub lr: f64,
    /// Of the initialisation and of dropout.
    pub seed: u64,
    pub dropout: f64,
    /// When which layers are sparse.
    pub plan: SchedulePlan,
    pub selection: Selection,
    pub masking: Masking,
    pub only_weight: bool,
    /// Layers that `plan` leaves dense, and an adaptive selection should too.
    pub dense_layers: Vec<Layers>,
}

struct Typed<
    M: ImageClassifier<C, H, W, CLASSES, Cpu>,
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
> {
    dev: Cpu,
    trainer: Trainer<M, Cpu>,
}

impl<
        M: ImageClassifier<C, H, W, CLASSES, Cpu>,
        const C: usize,
        const H: usize,
        const W: usize,
        const CLASSES: usize,
    > Network for Typed<M, C, H, W, CLASSES>
{
    fn epoch(&self) -> u64 {
        self.trainer.epoch()
    }

    fn train_epoch(
        &mut self,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> ssprop::Result<EpochReport> {
        self.trainer
            .train_epoch::<C, H, W, CLASSES>(&self.dev, loader, observer)
    }

    fn evaluate(&self, loader: &BatchLoader) -> ssprop::Result<Evaluation> {
        self.trainer.evaluate::<C, H, W, CLASSES>(&self.dev, loader)
    }

    fn save(&self, path: &Path, metadata: &Metadata) -> ssprop::Result<()> {
        self.trainer.save(path, metadata)
    }

    fn resume(&mut self, path: &Path) -> ssprop::Result<Metadata> {
        self.trainer.resume(path)
    }

    fn load(&mut self, path: &Path) -> ssprop::Result<Metadata> {
        checkpoint::load(path, &mut self.trainer.model)
    }

    fn cost(&mut self) -> ssprop::Result<ModelCost> {
        let mut dropped = false;
        self.trainer
            .model
            .visit_dropout(&mut |layer| dropped |= layer.dropout.is_on());
        Ok(ModelCost::of::<M>([C, H, W])?.with_dropout(|_| dropped))
    }
}

/// Builds a network for images of C x H x W and CLASSES classes.
fn build<B, const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
    settings: &Settings,
) -> ssprop::Result<Box<dyn Network>>
where
    B: BuildOnDevice<Cpu, f32>,
    B::Built: ImageClassifier<C, H, W, CLASSES, Cpu> + 'static,
{
    let dev = Cpu::seed_from_u64(settings.seed);
    let mut model = dev.build_module::<B, f32>();
    settings.apply(&mut model);
    model.set_dropout(settings.dropout, settings.seed)?;
    let config = AdamConfig {
        lr: settings.lr,
        ..AdamConfig::adam()
    };
    let trainer = Trainer::new(model, config)?.with_schedule(settings.plan.clone())?;
    Ok(Box::new(Typed::<_, C, H, W, CLASSES> { dev, trainer }))
}

impl Settings {
    fn apply(&self, model: &mut dyn VisitSparse) {
        let mut index = 0;
        model.visit_sparse(&mut |layer| {
            let info = layer.info(index);
            let dense = self
                .dense_layers
                .iter()
                .any(|layers| layers.contains(&info));
            index += 1;
            // An adaptive rule takes no notice of the drop rate.
            if !dense {
                layer.backward.selection = self.selection;
            }
            layer.backward.masking = self.masking;
            layer.backward.only_weight_sparse = self.only_weight;
        });
    }
}

/// Builds `model` for the images and classes of `task`.
pub fn network(task: Task, model: Model, settings: &Settings) -> ssprop::Result<Box<dyn Network>> {
    match task {
        Task::Mnist | Task::FashionMnist => small::<1, 28, 28, 784, 10>(model, settings),
        Task::Cifar10 => small::<3, 32, 32, 3072, 10>(model, settings),
        Task::Cifar100 => small::<3, 32, 32, 3072, 100>(model, settings),
        Task::CelebA => resnet::<3, 64, 64, 40>(model, settings),
        Task::ImageNet => resnet::<3, 224, 224, 1000>(model, settings),
    }
}

/// Any of the networks; PIXELS is C * H * W.
fn small<
    const C: usize,
    const H: usize,
    const W: usize,
    const PIXELS: usize,
    const CLASSES: usize,
>(
    model: Model,
    settings: &Settings,
) -> ssprop::Result<Box<dyn Network>>
where
    Const<PIXELS>: Dim,
    builders::MLP<CLASSES, PIXELS>: BuildOnDevice<Cpu, f32>,
    <builders::MLP<CLASSES, PIXELS> as BuildOnDevice<Cpu, f32>>::Built:
        ImageClassifier<C, H, W, CLASSES, Cpu> + 'static,
{
    macro_rules! cnn {
        ($layers:literal) => {
            build::<AnySize<builders::Cnn<$layers, CLASSES, C>>, C, H, W, CLASSES>(settings)
        };
    }
    match model {
        Model::Mlp => build::<builders::MLP<CLASSES, PIXELS>, C, H, W, CLASSES>(settings),
        Model::Cnn(2) => cnn!(2),
        Model::Cnn(3) => cnn!(3),
        Model::Cnn(4) => cnn!(4),
        Model::Cnn(5) => cnn!(5),
        Model::Cnn(6) => cnn!(6),
        Model::Cnn(7) => cnn!(7),
        Model::Cnn(8) => cnn!(8),
        Model::Cnn(9) => cnn!(9),
        Model::Cnn(10) => cnn!(10),
        Model::Cnn(11) => cnn!(11),
        _ => resnet::<C, H, W, CLASSES>(model, settings),
    }
}

fn resnet<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
    model: Model,
    settings: &Settings,
) -> ssprop::Result<Box<dyn Network>> {
    macro_rules! resnet {
        ($name:ident) => {
            build::<AnySize<builders::$name<CLASSES, C>>, C, H, W, CLASSES>(settings)
        };
    }
    match model {
        Model::ResNet18 => resnet!(ResNet18),
        Model::ResNet26 => resnet!(ResNet26),
        Model::ResNet34 => resnet!(ResNet34),
        Model::ResNet50 => resnet!(ResNet50),
        Model::Cnn(layers) if !DEPTHS.contains(&layers) => {
            Err(Error::parameter("--layers", layers, "in 2..=11"))
        }
        Model::Cnn(_) | Model::Mlp => Err(Error::parameter(
            "--model",
            model,
            "a ResNet for celeba and imagenet",
        )),
    }
}
