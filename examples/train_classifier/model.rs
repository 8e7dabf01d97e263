//! What `--model` names, and for which tasks it is there.

use std::fmt;
use std::ops::RangeInclusive;

use ssprop::data::Task;
use ssprop::Error;

/// A network: the paper's, a multi-layer perceptron, a vision transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    ResNet18,
    ResNet26,
    ResNet34,
    ResNet50,
    /// Of this many convolutions.
    Cnn(usize),
    Mlp,
    /// Of 6 blocks of 64 channels and 4 heads, for patches of 4x4 pixels.
    ViT,
}

/// The depths of the CNN.
pub const DEPTHS: RangeInclusive<usize> = 2..=11;

impl Model {
    /// Its value of --model.
    pub fn flag(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet26 => "resnet26",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
            Self::Cnn(_) => "cnn",
            Self::Mlp => "mlp",
            Self::ViT => "vit",
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResNet18 => f.write_str("ResNet-18"),
            Self::ResNet26 => f.write_str("ResNet-26"),
            Self::ResNet34 => f.write_str("ResNet-34"),
            Self::ResNet50 => f.write_str("ResNet-50"),
            Self::Cnn(layers) => write!(f, "CNN of {layers} layers"),
            Self::Mlp => f.write_str("MLP"),
            Self::ViT => f.write_str("ViT"),
        }
    }
}

/// That a network is compiled for a task. Each pair costs compile time, so that those which the
/// paper does not have are fewer.
///
/// # Errors
/// [`Error::Parameter`] with the network.
pub fn check(task: Task, model: Model) -> ssprop::Result<()> {
    let range = match (task, model) {
        (_, Model::Cnn(layers)) if !DEPTHS.contains(&layers) => {
            return Err(Error::parameter("--layers", layers, "in 2..=11"));
        }
        (Task::Mnist | Task::FashionMnist | Task::Cifar10, _) => return Ok(()),
        (Task::Folder, Model::ResNet18) => return Ok(()),
        (Task::Folder, _) => "resnet18 with --task folder",
        (_, Model::ResNet18 | Model::ResNet50) => return Ok(()),
        (Task::Cifar100, Model::Cnn(_)) => "another than cnn with --task cifar100",
        (Task::Cifar100, _) => return Ok(()),
        (Task::CelebA, _) => "resnet18 or resnet50 with --task celeba",
        (Task::ImageNet, _) => "resnet18 or resnet50 with --task imagenet",
    };
    Err(Error::parameter("--model", model.flag(), range))
}
