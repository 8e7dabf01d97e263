//! The flags, and what follows from them together.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use ssprop::data::{folder_classes, Augmentation, Task};
use ssprop::distributed::Communicator;
use ssprop::nn::LayerSelector;
use ssprop::prelude::*;
use ssprop::Error;

use crate::images::{Images, SIZES};
use crate::model::{Model, DEPTHS};
use crate::networks::Settings;
use crate::optimization::Optimization;
use crate::paper;
use crate::preparation::Preparation;
use common::args::{count, drop_rate, lr, threads, RunArgs};
use common::device::Device;

/// Train a classifier of the paper (arXiv 2408.12561), densely or with a sparse backward pass
#[derive(Debug, Parser)]
pub struct Args {
    /// Data set: fashion-mnist, mnist, cifar10, cifar100, celeba, imagenet, or folder for any pictures
    /// in a folder for each class (of train and val, or alone: a share of them is then held out)
    #[arg(long, default_value = "fashion-mnist")]
    pub task: Task,
    /// The data set's folder, or archive [default: data/TASK; for fashion-mnist the bundled part]
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Rows and columns that the pictures of --task folder are resized to: 32, 64 or 224 [default: 64]
    #[arg(long, value_parser = size)]
    pub size: Option<usize>,
    /// Random changes of the training images, by --seed: some of crop=PIXELS, flip and
    /// resized-crop[=SHARE], with commas; the paper has none
    #[arg(long, default_value = "none")]
    pub augment: Augmentation,
    /// Leave pictures that are damaged out, and name them, instead of ending with an error
    #[arg(long)]
    pub skip_damaged: bool,
    /// Network; celeba and imagenet have resnet18 and resnet50 only, folder has resnet18 only, cifar100
    /// has no cnn
    #[arg(long, value_enum, default_value = "resnet18")]
    pub model: Architecture,
    /// Convolutions of the cnn, in 2..=11 [default: 3]
    #[arg(long, value_parser = layers)]
    pub layers: Option<usize>,
    /// Dropout after each batch norm (the paper's Table 6 has 0.2 and 0.4)
    #[arg(long, default_value = "0", value_parser = dropout)]
    pub dropout: f64,
    /// Have all classes count the same in the loss, however many images they have
    #[arg(long)]
    pub balance_classes: bool,
    /// Mix each image, and its label, with another one of its batch, in shares of Beta(ALPHA, ALPHA): mixup, 0.2 say
    /// [default: none]
    #[arg(long, value_name = "ALPHA")]
    pub mixup: Option<f64>,
    /// Have batch norms normalise by the images of all ranks (of mpirun)
    #[arg(long)]
    pub sync_batch_norm: bool,
    /// Decides the validation images, the initialisation, the order of the images, and what
    /// dropout and random selections drop
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Epochs of the whole run [default: the paper's 50; of ResNet-26 and ResNet-50 on CIFAR 250, with
    /// --dropout 4000 on CIFAR-10 and 1800 on CIFAR-100; for networks without a figure of the paper 50]
    #[arg(long, value_parser = count)]
    pub epochs: Option<usize>,
    /// Images in a batch [default: the paper's 128; of ResNet-50 on celeba 32, of ResNet-18 on
    /// imagenet 32, of ResNet-50 on imagenet 16; for networks without a figure of the paper that of
    /// the next smaller ResNet that has one]
    #[arg(long, value_parser = count)]
    pub batch_size: Option<usize>,
    /// Learning rate; the default is the paper's (Table 2). In few epochs 0.001 learns more
    #[arg(long, default_value = "0.0002", value_parser = lr)]
    pub lr: f64,
    /// How it changes: constant (the paper's), "step,every=30,by=0.1", "cosine,epochs=50" or "one-cycle,epochs=50",
    /// each also with ",warmup=5,from=0.1"
    #[arg(long, default_value = "constant")]
    pub lr_schedule: LrSchedule,
    /// Images for training and validation, balanced over the classes; a fifth is for validation, but
    /// celeba and imagenet bring their own, and a folder may [default: all]
    #[arg(long, value_parser = count)]
    pub train_limit: Option<usize>,
    /// Test images, balanced over the classes [default: all]
    #[arg(long, value_parser = count)]
    pub test_limit: Option<usize>,
    /// Stop after so many epochs without a better accuracy on the validation images [default: never]
    #[arg(long, value_parser = count)]
    pub patience: Option<usize>,
    /// Where the network runs
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Device,
    /// Threads [default: one a core]
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    #[command(flatten, next_help_heading = "How the images are prepared")]
    pub preparation: Preparation,
    #[command(flatten, next_help_heading = "How to update the weights")]
    pub optimization: Optimization,

    /// Whether the backward pass is ever sparse
    #[arg(long, value_enum, default_value = "ssprop")]
    pub mode: Mode,
    #[command(
        flatten,
        next_help_heading = "When to drop (the paper's choice: 0.8 in every second epoch)"
    )]
    pub when: When,
    #[command(flatten, next_help_heading = "What to drop")]
    pub what: What,

    #[command(flatten, next_help_heading = "The run")]
    pub run: RunArgs,
}

/// When to drop.
#[derive(Debug, clap::Args)]
pub struct When {
    /// Drop rate that sparse epochs have, or lead to [default: 0.8]
    #[arg(long, value_parser = drop_rate)]
    pub drop_rate: Option<DropRate>,
    /// How the drop rate gets there [default: constant, with --interleave]
    #[arg(long, value_enum)]
    pub curve: Option<CurveName>,
    /// Drop rate that the curve starts at [default: 0]
    #[arg(long, value_parser = drop_rate)]
    pub start_rate: Option<DropRate>,
    /// Iterations of the curve, again and again in each epoch [default: it runs once, over the
    /// epochs of the run]
    #[arg(long, value_parser = count)]
    pub period: Option<usize>,
    /// Make every second epoch dense, beginning with the first after the warm-up
    #[arg(long)]
    pub interleave: bool,
    /// Dense epochs at the beginning [default: 0]
    #[arg(long)]
    pub warm_up: Option<u64>,
    /// All of this in one text, also by layer: "paper; layer1=constant,drop=0.6; @stem=dense"
    #[arg(long)]
    pub schedule: Option<SchedulePlan>,
    /// Layers that are always dense: stem, shortcuts or path patterns (layer1, layer*.0.conv1)
    #[arg(long, value_delimiter = ',')]
    pub dense_layers: Vec<String>,
}

/// What to drop.
#[derive(Debug, clap::Args)]
pub struct What {
    /// Which are kept: the most important, random ones, the next ones at each iteration, or the fewest that
    /// hold --keep-share of the importance [default: top-k]
    #[arg(long, value_enum)]
    pub selection: Option<SelectionName>,
    /// Multiply what a random selection or a rotation keeps by n / k, where it keeps k of n
    #[arg(long)]
    pub rescale: bool,
    /// Share of the summed importance that an adaptive selection keeps, at every iteration
    #[arg(long)]
    pub keep_share: Option<f64>,
    /// Least share of the channels that an adaptive selection keeps [default: one channel]
    #[arg(long)]
    pub min_keep: Option<f64>,
    /// Largest share of the channels that an adaptive selection keeps [default: 1]
    #[arg(long)]
    pub max_keep: Option<f64>,
    /// What is kept or dropped as one; only channels save time [default: channels]
    #[arg(long, value_enum)]
    pub masking: Option<MaskingName>,
    /// Sparse gradients of the weights only
    #[arg(long)]
    pub only_weight: bool,
    /// Decides what a random selection keeps [default: --seed]
    #[arg(long)]
    pub selection_seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    #[value(name = "resnet18")]
    ResNet18,
    #[value(name = "resnet26")]
    ResNet26,
    #[value(name = "resnet34")]
    ResNet34,
    #[value(name = "resnet50")]
    ResNet50,
    /// 2 to 11 convolutions of 128 channels
    Cnn,
    /// Two hidden layers of 512 units
    Mlp,
    /// A vision transformer, patches of 4x4 pixels, 6 blocks of 64 channels, 4 heads
    #[value(name = "vit")]
    ViT,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Dense,
    Ssprop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CurveName {
    Constant,
    Linear,
    Cosine,
    /// One step, halfway
    Bar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SelectionName {
    TopK,
    Random,
    Rotation,
    Adaptive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MaskingName {
    Channels,
    /// Height x width
    Positions,
    /// Channels x height x width
    Elements,
}

/// Depths of the cnn.
fn layers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if DEPTHS.contains(&n) => Ok(n),
        _ => Err("must be a whole number in 2..=11".into()),
    }
}

/// Sizes of the pictures of a folder.
fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if SIZES.contains(&n) => Ok(n),
        _ => Err("must be 32, 64 or 224".into()),
    }
}

/// Dropout rates.
fn dropout(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.0..1.0).contains(&rate) => Ok(rate),
        _ => Err("must be a number of at least 0 and less than 1".into()),
    }
}

/// A flag and its value, if it was given.
type Given = (&'static str, Option<String>);

fn value<T: std::fmt::Display>(value: &Option<T>) -> Option<String> {
    value.as_ref().map(T::to_string)
}

fn name<T: ValueEnum>(value: Option<T>) -> Option<String> {
    Some(value?.to_possible_value()?.get_name().to_owned())
}

fn switch(on: bool) -> Option<String> {
    on.then(|| "true".to_owned())
}

/// That none of the flags was given.
fn none_of(flags: impl IntoIterator<Item = Given>, why: &'static str) -> ssprop::Result<()> {
    match flags
        .into_iter()
        .find_map(|(flag, value)| Some((flag, value?)))
    {
        Some((flag, value)) => Err(Error::parameter(flag, value, why)),
        None => Ok(()),
    }
}

impl When {
    /// The flags that make one schedule, together.
    fn parts(&self) -> [Given; 6] {
        [
            ("--drop-rate", self.drop_rate.map(|r| r.rate().to_string())),
            ("--curve", name(self.curve)),
            (
                "--start-rate",
                self.start_rate.map(|r| r.rate().to_string()),
            ),
            ("--period", value(&self.period)),
            ("--interleave", switch(self.interleave)),
            ("--warm-up", value(&self.warm_up)),
        ]
    }

    fn flags(&self) -> impl Iterator<Item = Given> {
        let layers = (!self.dense_layers.is_empty()).then(|| self.dense_layers.join(","));
        let more = [
            ("--schedule", value(&self.schedule)),
            ("--dense-layers", layers),
        ];
        self.parts().into_iter().chain(more)
    }

    fn schedule(&self, epochs: u64) -> ssprop::Result<Schedule> {
        let target = self.drop_rate.unwrap_or(DropRate::PAPER);
        let span = || match self.period {
            Some(period) => Span::iterations(period as u64),
            None => Span::epochs(epochs),
        };
        let schedule = match self.curve {
            Some(CurveName::Linear) => Schedule::linear(target, span()?),
            Some(CurveName::Cosine) => Schedule::cosine(target, span()?),
            Some(CurveName::Bar) => Schedule::bar(target, span()?),
            Some(CurveName::Constant) | None => {
                let [_, _, start, period, _, _] = self.parts();
                none_of(
                    [start, period],
                    "left out, or go with --curve linear, cosine or bar",
                )?;
                Schedule::constant(target)
            }
        };
        let schedule = schedule.starting_at(self.start_rate.unwrap_or_default());
        let schedule = match self.interleave || self.curve.is_none() {
            true => schedule.interleaved(),
            false => schedule,
        };
        schedule.warm_up(self.warm_up.unwrap_or(0))
    }

    fn layers(&self) -> impl Iterator<Item = LayerSelector> + '_ {
        self.dense_layers.iter().map(|text| match text.as_str() {
            "stem" => LayerSelector::stem(),
            "shortcuts" => LayerSelector::shortcuts(),
            pattern => LayerSelector::from(pattern),
        })
    }
}

impl What {
    fn flags(&self) -> [Given; 8] {
        [
            ("--selection", name(self.selection)),
            ("--rescale", switch(self.rescale)),
            ("--keep-share", value(&self.keep_share)),
            ("--min-keep", value(&self.min_keep)),
            ("--max-keep", value(&self.max_keep)),
            ("--masking", name(self.masking)),
            ("--only-weight", switch(self.only_weight)),
            ("--selection-seed", value(&self.selection_seed)),
        ]
    }

    fn selection(&self, seed: u64) -> ssprop::Result<Selection> {
        let [_, rescale, share, min, max, _, _, own_seed] = self.flags();
        let chosen = self.selection.unwrap_or(SelectionName::TopK);
        if chosen != SelectionName::Random {
            none_of([own_seed], "left out, or go with --selection random")?;
        }
        if !matches!(chosen, SelectionName::Random | SelectionName::Rotation) {
            none_of(
                [rescale],
                "left out, or go with --selection random or rotation",
            )?;
        }
        if chosen != SelectionName::Adaptive {
            none_of(
                [share, min, max],
                "left out, or go with --selection adaptive",
            )?;
        }
        Ok(match chosen {
            SelectionName::TopK => Selection::TopK,
            SelectionName::Random => Selection::Random {
                seed: self.selection_seed.unwrap_or(seed),
                rescale: self.rescale,
            },
            SelectionName::Rotation => Selection::Rotation {
                rescale: self.rescale,
            },
            SelectionName::Adaptive => {
                let Some(share) = self.keep_share else {
                    return Err(Error::parameter(
                        "--selection",
                        "adaptive",
                        "given with --keep-share",
                    ));
                };
                let rule = AdaptiveKeep::new(share)?;
                Selection::Adaptive(match (self.min_keep, self.max_keep) {
                    (None, None) => rule,
                    // So small a share is one channel of however many.
                    (min, max) => rule.with_bounds(min.unwrap_or(1e-9), max.unwrap_or(1.0))?,
                })
            }
        })
    }
}

impl Args {
    pub fn model(&self) -> ssprop::Result<Model> {
        if self.model != Architecture::Cnn {
            none_of(
                [("--layers", value(&self.layers))],
                "left out, or go with --model cnn",
            )?;
        }
        Ok(match self.model {
            Architecture::ResNet18 => Model::ResNet18,
            Architecture::ResNet26 => Model::ResNet26,
            Architecture::ResNet34 => Model::ResNet34,
            Architecture::ResNet50 => Model::ResNet50,
            Architecture::Cnn => Model::Cnn(self.layers.unwrap_or(3)),
            Architecture::Mlp => Model::Mlp,
            Architecture::ViT => Model::ViT,
        })
    }

    /// What the images are: of a folder, with as many classes as it has.
    ///
    /// # Errors
    /// If --size was given for another task, or the folder has no classes or more than 1000.
    pub fn images(&self) -> ssprop::Result<Images> {
        if self.task != Task::Folder {
            let range = "left out, or go with --task folder";
            none_of([("--size", value(&self.size))], range)?;
            return Ok(Images::Task(self.task));
        }
        let size = self.size.unwrap_or(64);
        let classes = folder_classes(crate::data::path(self.task, self.data.as_deref())?)?.len();
        Images::of_folder(size, classes)
    }

    pub fn epochs(&self) -> usize {
        self.epochs
            .unwrap_or_else(|| paper::epochs(self.task, self.model, self.dropout > 0.0))
    }

    pub fn batch_size(&self) -> usize {
        self.batch_size
            .unwrap_or_else(|| paper::batch_size(self.task, self.model))
    }

    /// How the network is to be trained.
    ///
    /// # Errors
    /// For flags that do not go together: the first of them, with its value.
    pub fn settings(&self) -> ssprop::Result<Settings> {
        let epochs = self.epochs() as u64;
        if self.mode == Mode::Dense {
            let flags = self.when.flags().chain(self.what.flags());
            none_of(flags, "left out with --mode dense")?;
        }
        let without_batch_norm = match self.model {
            Architecture::Mlp => Some("0 with --model mlp, which has no batch norm"),
            Architecture::ViT => Some("0 with --model vit, which has no batch norm"),
            _ => None,
        };
        if let Some(range) = without_batch_norm.filter(|_| self.dropout > 0.0) {
            return Err(Error::parameter("--dropout", self.dropout, range));
        }
        let adaptive = self.what.selection == Some(SelectionName::Adaptive);
        if adaptive {
            let whole = [("--schedule", value(&self.when.schedule))];
            none_of(
                self.when.parts().into_iter().chain(whole),
                "left out with --selection adaptive, which sets the drop rate itself",
            )?;
        }
        let mut plan = match &self.when.schedule {
            Some(plan) => {
                none_of(self.when.parts(), "left out with --schedule")?;
                plan.clone()
            }
            None if adaptive || self.mode == Mode::Dense => Schedule::DENSE.into(),
            None => self.when.schedule(epochs)?.into(),
        };
        for layers in self.when.layers() {
            plan = plan.dense(layers);
        }
        plan.check_run(epochs)?;
        self.preparation.check(self.task)?;
        self.optimization.check(self.lr)?;
        Ok(Settings {
            ranks: Communicator::alone(),
            device: self.device,
            lr: self.lr,
            optimization: self.optimization.clone(),
            class_weights: None,
            mixup: self.mixup,
            lr_schedule: self.lr_schedule,
            seed: self.seed,
            dropout: self.dropout,
            sync_batch_norm: self.sync_batch_norm,
            plan,
            selection: self.what.selection(self.seed)?,
            masking: match self.what.masking {
                None | Some(MaskingName::Channels) => Masking::Channels,
                Some(MaskingName::Positions) => Masking::Positions,
                Some(MaskingName::Elements) => Masking::Elements,
            },
            only_weight: self.what.only_weight,
            dense_layers: self.when.layers().collect(),
        })
    }
}
