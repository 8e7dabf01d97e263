//! The networks, each of a type of its own, behind one trait without type parameters.

use std::path::Path;

use common::device::Device;
use common::optimization::BoxedTrainer;
#[cfg(not(test))]
use common::vit::ViT;
use dfdx::nn::BuildOnDevice;
use ssprop::checkpoint::Metadata;
use ssprop::data::{BatchLoader, Task};
use ssprop::distributed::Communicator;
use ssprop::models::builders;
use ssprop::nn::{LayerSelector, ModelCost};
use ssprop::prelude::*;
use ssprop::run::Resumable;
use ssprop::train::{ConfusionMatrix, ImageClassifier};
use ssprop::{Backend, Error};

use crate::any_size::AnySize;
use crate::images::Images;
use crate::kept::Kept;
use crate::model::Model;
use crate::optimization::Optimization;

/// A network in training.
pub trait Network: Resumable {
    /// [`Trainer::train_part`].
    fn train_part(
        &mut self,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> ssprop::Result<Option<EpochReport>>;
    fn evaluate(&self, loader: &BatchLoader) -> ssprop::Result<Evaluation>;
    /// [`Trainer::evaluate_by_class`].
    fn evaluate_by_class(
        &self,
        loader: &BatchLoader,
    ) -> ssprop::Result<(Evaluation, ConfusionMatrix)>;
    /// What its backward pass costs.
    fn cost(&mut self) -> ssprop::Result<ModelCost>;
}

/// How a network is trained.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Those that train it together.
    pub ranks: Communicator,
    pub device: Device,
    pub lr: f64,
    pub optimization: Optimization,
    /// What the images of each class count, if not the same.
    pub class_weights: Option<Vec<f64>>,
    /// The parameter of mixup's distribution, if images are mixed.
    pub mixup: Option<f64>,
    pub lr_schedule: LrSchedule,
    /// Of the initialisation and of dropout.
    pub seed: u64,
    pub dropout: f64,
    /// Whether batch norms normalise by all ranks' images.
    pub sync_batch_norm: bool,
    /// When which layers are sparse.
    pub plan: SchedulePlan,
    pub selection: Selection,
    pub masking: Masking,
    pub only_weight: bool,
    /// Layers that `plan` leaves dense, and an adaptive selection should too.
    pub dense_layers: Vec<LayerSelector>,
}

struct Typed<
    M: ImageClassifier<C, H, W, CLASSES, D>,
    D: Backend<f32>,
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
> {
    dev: D,
    trainer: BoxedTrainer<M, D>,
    /// What the epoch under way has kept, since it was begun or resumed.
    kept: Option<Kept>,
}

impl<
        M: ImageClassifier<C, H, W, CLASSES, D>,
        D: Backend<f32>,
        const C: usize,
        const H: usize,
        const W: usize,
        const CLASSES: usize,
    > Resumable for Typed<M, D, C, H, W, CLASSES>
{
    fn epoch(&self) -> u64 {
        self.trainer.epoch()
    }

    fn batches_done(&self) -> usize {
        self.trainer.batches_done()
    }

    fn save(&self, path: &Path, metadata: &Metadata) -> ssprop::Result<()> {
        self.trainer.save(path, metadata)
    }

    fn resume(&mut self, path: &Path) -> ssprop::Result<Metadata> {
        self.trainer.resume(path)
    }
}

impl<
        M: ImageClassifier<C, H, W, CLASSES, D>,
        D: Backend<f32>,
        const C: usize,
        const H: usize,
        const W: usize,
        const CLASSES: usize,
    > Network for Typed<M, D, C, H, W, CLASSES>
{
    fn train_part(
        &mut self,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> ssprop::Result<Option<EpochReport>> {
        if self.kept.is_none() {
            self.kept = Kept::of(&mut self.trainer.model);
        }
        let part = self
            .trainer
            .train_part::<C, H, W, CLASSES>(&self.dev, loader, observer)?;
        let Some(report) = part else {
            return Ok(None);
        };
        Ok(Some(match self.kept.take() {
            Some(kept) => kept.correct(report, &self.cost()?),
            None => report,
        }))
    }

    fn evaluate(&self, loader: &BatchLoader) -> ssprop::Result<Evaluation> {
        self.trainer.evaluate::<C, H, W, CLASSES>(&self.dev, loader)
    }

    fn evaluate_by_class(
        &self,
        loader: &BatchLoader,
    ) -> ssprop::Result<(Evaluation, ConfusionMatrix)> {
        self.trainer
            .evaluate_by_class::<C, H, W, CLASSES>(&self.dev, loader)
    }

    fn cost(&mut self) -> ssprop::Result<ModelCost> {
        self.trainer.backward_cost([C, H, W])
    }
}

/// Builds a network for images of C x H x W and CLASSES classes on a device.
fn build_on<B, D, const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
    dev: D,
    settings: &Settings,
) -> ssprop::Result<Box<dyn Network>>
where
    B: BuildOnDevice<D, f32>,
    B::Built: ImageClassifier<C, H, W, CLASSES, D> + Clone + 'static,
    D: Backend<f32>,
{
    let mut model = B::build_on_device(&dev);
    settings.apply(&mut model);
    model.set_dropout(settings.dropout, settings.seed)?;
    model.set_synchronized(settings.sync_batch_norm);
    let mut trainer = settings.optimization.trainer(model, settings.lr)?;
    if let Some(weights) = &settings.class_weights {
        trainer = trainer.with_class_weights(weights.clone())?;
    }
    if let Some(alpha) = settings.mixup {
        trainer = trainer.with_mixup(alpha, settings.seed)?;
    }
    let trainer = trainer
        .with_schedule(settings.plan.clone())?
        .with_communicator(&settings.ranks)?
        .with_lr_schedule(settings.lr_schedule);
    Ok(Box::new(Typed::<_, _, C, H, W, CLASSES> {
        dev,
        trainer,
        kept: None,
    }))
}

/// The same on the device that the settings say.
macro_rules! build {
    ($Net:ty, $C:expr, $H:expr, $W:expr, $CLASSES:expr, $settings:expr) => {
        common::on_device!($settings.device, $settings.seed, |dev| {
            build_on::<$Net, _, { $C }, { $H }, { $W }, { $CLASSES }>(dev, $settings)
        })
    };
}

impl Settings {
    fn apply(&self, model: &mut dyn VisitLayers) {
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

/// Builds `model` for `images`. (Tests are spared all but two networks.)
///
/// # Errors
/// As [`check`], and those of settings that do not fit the network.
pub fn network(
    images: Images,
    model: Model,
    settings: &Settings,
) -> ssprop::Result<Box<dyn Network>> {
    #[cfg(not(test))]
    if let Images::Folder { size, classes } = images {
        return match classes {
            1..=10 => folder::<10>(size, settings),
            11..=100 => folder::<100>(size, settings),
            _ => folder::<1000>(size, settings),
        };
    }
    match images.task() {
        Task::Mnist | Task::FashionMnist => match model {
            Model::Mlp => build!(builders::MLP<10, 784>, 1, 28, 28, 10, settings),
            #[cfg(not(test))]
            Model::ViT => build!(ViT<10, 1, 28>, 1, 28, 28, 10, settings),
            Model::Cnn(layers) => cnn::<1, 28, 28>(layers, settings),
            _ => resnet::<1, 28, 28, 10>(model, settings),
        },
        #[cfg(not(test))]
        Task::Cifar10 => match model {
            Model::Mlp => build!(builders::MLP<10, 3072>, 3, 32, 32, 10, settings),
            Model::ViT => build!(ViT<10, 3, 32>, 3, 32, 32, 10, settings),
            Model::Cnn(layers) => cnn::<3, 32, 32>(layers, settings),
            _ => resnet::<3, 32, 32, 10>(model, settings),
        },
        #[cfg(not(test))]
        Task::Cifar100 => match model {
            Model::Mlp => build!(builders::MLP<100, 3072>, 3, 32, 32, 100, settings),
            Model::ViT => build!(ViT<100, 3, 32>, 3, 32, 32, 100, settings),
            _ => resnet::<3, 32, 32, 100>(model, settings),
        },
        #[cfg(not(test))]
        Task::CelebA => large::<3, 64, 64, 40>(model, settings),
        #[cfg(not(test))]
        Task::ImageNet => large::<3, 224, 224, 1000>(model, settings),
        #[cfg(not(test))]
        Task::Folder => not_compiled(model),
        #[cfg(test)]
        _ => not_compiled(model),
    }
}

/// A CNN for 10 classes.
fn cnn<const C: usize, const H: usize, const W: usize>(
    layers: usize,
    settings: &Settings,
) -> ssprop::Result<Box<dyn Network>> {
    macro_rules! depths {
        ($($(#[$cfg:meta])? $layers:literal),*) => {
            match layers {
                $(
                    $(#[$cfg])?
                    $layers => build!(AnySize<builders::Cnn<$layers, 10, C>>, C, H, W, 10, settings),
                )*
                _ => not_compiled(Model::Cnn(layers)),
            }
        };
    }
    depths!(
        2,
        #[cfg(not(test))]
        3,
        #[cfg(not(test))]
        4,
        #[cfg(not(test))]
        5,
        #[cfg(not(test))]
        6,
        #[cfg(not(test))]
        7,
        #[cfg(not(test))]
        8,
        #[cfg(not(test))]
        9,
        #[cfg(not(test))]
        10,
        #[cfg(not(test))]
        11
    )
}

macro_rules! resnets {
    ($model:expr, $settings:expr, $($name:ident),*) => {
        match $model {
            $(
                #[cfg(not(test))]
                Model::$name => {
                    build!(AnySize<builders::$name<CLASSES, C>>, C, H, W, CLASSES, $settings)
                }
            )*
            model => not_compiled(model),
        }
    };
}

/// Any of the ResNets.
#[cfg_attr(test, allow(unused_variables))]
fn resnet<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
    model: Model,
    settings: &Settings,
) -> ssprop::Result<Box<dyn Network>> {
    resnets!(model, settings, ResNet18, ResNet26, ResNet34, ResNet50)
}

/// The ResNets of the paper's largest tasks.
#[cfg(not(test))]
fn large<const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
    model: Model,
    settings: &Settings,
) -> ssprop::Result<Box<dyn Network>> {
    resnets!(model, settings, ResNet18, ResNet50)
}

/// ResNet-18 for pictures of a folder, compiled once for all sizes.
#[cfg(not(test))]
fn folder<const CLASSES: usize>(
    size: usize,
    settings: &Settings,
) -> ssprop::Result<Box<dyn Network>> {
    type Net<const CLASSES: usize> = AnySize<builders::ResNet18<CLASSES, 3>>;
    match size {
        32 => build!(Net<CLASSES>, 3, 32, 32, CLASSES, settings),
        64 => build!(Net<CLASSES>, 3, 64, 64, CLASSES, settings),
        224 => build!(Net<CLASSES>, 3, 224, 224, CLASSES, settings),
        size => Err(Error::parameter("--size", size, "32, 64 or 224")),
    }
}

fn not_compiled(model: Model) -> ssprop::Result<Box<dyn Network>> {
    Err(Error::parameter(
        "--model",
        model.flag(),
        "one that is compiled for the task",
    ))
}
