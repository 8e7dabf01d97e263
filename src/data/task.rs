//! Classification tasks: what their data sets are called, look like and consist of.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::celeba::celeba;
use super::dataset::{ImageDataset, ImageShape};
use super::folder::folder;
use super::imagenet::imagenet;
use super::normalization::Normalization;
use super::split::{Limits, Splits};
use super::{load, DatasetKind};
use crate::error::DataError;
use crate::error::{Error, Result};

/// A classification task of arXiv 2408.12561 (Table 1), or pictures of one's own.
///
/// Each has a name, for [`FromStr`] and [`Display`](fmt::Display), so that it can be an argument of
/// a program.
///
/// ```
/// use ssprop::data::{Limits, Task};
///
/// let task: Task = "celeba".parse()?;
/// assert_eq!((task.info().classes, task.info().multi_label), (40, true));
/// // What to do if it is not there.
/// let err = task.load("no/such/folder", Limits::default(), 0).unwrap_err().to_string();
/// assert!(err.contains("no/such/folder") && err.contains("list_attr_celeba.txt"));
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// `mnist`
    Mnist,
    /// `fashion-mnist`
    FashionMnist,
    /// `cifar10`
    Cifar10,
    /// `cifar100`
    Cifar100,
    /// `celeba`
    CelebA,
    /// `imagenet`
    ImageNet,
    /// `folder`: any pictures in a folder for each class, as [`folder`](super::folder()) reads them.
    Folder,
}

/// What there is to know about a task's data set without its files.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The name in arguments.
    pub name: &'static str,
    /// The name in print.
    pub title: &'static str,
    /// Where its makers tell how to obtain it.
    pub home_page: &'static str,
    /// The files that [`Task::load`] looks for.
    pub files: &'static str,
    /// The images' size, after resizing for CelebA, ImageNet and a folder.
    pub shape: ImageShape,
    /// Classes, or attributes; of a folder the most that it can have.
    pub classes: usize,
    /// Whether each image has attributes instead of one class.
    pub multi_label: bool,
    /// The usual mean of each channel, in units of p / 255.
    pub mean: &'static [f32],
    /// The usual standard deviation of each channel.
    pub std: &'static [f32],
}

const IDX_FILES: &str = "train-images-idx3-ubyte, train-labels-idx1-ubyte, \
    t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (each as it is or with .gz)";

const MNIST: TaskInfo = TaskInfo {
    name: "mnist",
    title: "MNIST",
    home_page: "http://yann.lecun.com/exdb/mnist",
    files: IDX_FILES,
    shape: ImageShape::new(1, 28, 28),
    classes: 10,
    multi_label: false,
    mean: &[0.1307],
    std: &[0.3081],
};

const FASHION_MNIST: TaskInfo = TaskInfo {
    name: "fashion-mnist",
    title: "Fashion-MNIST",
    home_page: "https://github.com/zalandoresearch/fashion-mnist",
    mean: &[0.2860],
    std: &[0.3530],
    ..MNIST
};

const CIFAR10: TaskInfo = TaskInfo {
    name: "cifar10",
    title: "CIFAR-10",
    home_page: "https://www.cs.toronto.edu/~kriz/cifar.html",
    files: "data_batch_1.bin to data_batch_5.bin and test_batch.bin \
        (the binary version, unpacked or cifar-10-binary.tar.gz itself)",
    shape: ImageShape::new(3, 32, 32),
    classes: 10,
    multi_label: false,
    mean: &[0.4914, 0.4822, 0.4465],
    std: &[0.2470, 0.2435, 0.2616],
};

const CIFAR100: TaskInfo = TaskInfo {
    name: "cifar100",
    title: "CIFAR-100",
    files: "train.bin and test.bin \
        (the binary version, unpacked or cifar-100-binary.tar.gz itself)",
    classes: 100,
    mean: &[0.5071, 0.4865, 0.4409],
    std: &[0.2673, 0.2564, 0.2762],
    ..CIFAR10
};

const CELEBA: TaskInfo = TaskInfo {
    name: "celeba",
    title: "CelebA",
    home_page: "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    files: "img_align_celeba.zip (or its folder img_align_celeba), list_attr_celeba.txt and \
        list_eval_partition.txt",
    shape: super::celeba::SHAPE,
    classes: 40,
    multi_label: true,
    mean: &[0.5; 3],
    std: &[0.5; 3],
};

const IMAGENET: TaskInfo = TaskInfo {
    name: "imagenet",
    title: "ImageNet-1k",
    home_page: "https://www.image-net.org",
    files: "the folders train and val, each with a folder of JPEGs for each class (n01440764, ...)",
    shape: super::imagenet::SHAPE,
    classes: 1000,
    multi_label: false,
    mean: &[0.485, 0.456, 0.406],
    std: &[0.229, 0.224, 0.225],
};

const FOLDER: TaskInfo = TaskInfo {
    name: "folder",
    title: "pictures in folders",
    home_page: "wherever your pictures are",
    files: "a folder of JPEGs or PNGs for each class, or train and val that have them",
    shape: ImageShape::new(3, 64, 64),
    ..IMAGENET
};

impl Task {
    /// All tasks.
    pub const ALL: [Self; 7] = [
        Self::Mnist,
        Self::FashionMnist,
        Self::Cifar10,
        Self::Cifar100,
        Self::CelebA,
        Self::ImageNet,
        Self::Folder,
    ];

    /// What there is to know about its data set.
    pub fn info(self) -> &'static TaskInfo {
        match self {
            Self::Mnist => &MNIST,
            Self::FashionMnist => &FASHION_MNIST,
            Self::Cifar10 => &CIFAR10,
            Self::Cifar100 => &CIFAR100,
            Self::CelebA => &CELEBA,
            Self::ImageNet => &IMAGENET,
            Self::Folder => &FOLDER,
        }
    }

    /// The usual normalisation of its images. ([`Normalization::of`] computes that of a data set.)
    pub fn normalization(self) -> Normalization {
        let info = self.info();
        Normalization::constant(info.mean, info.std)
    }

    /// Reads the data set at `path`: a folder or an archive (of pictures a zip).
    ///
    /// A fifth of the training images, drawn by `seed`, is for validation; CelebA brings its own
    /// validation images, and a folder may. ImageNet's are for validation and for test, since the labels
    /// of its test images are not public ([`Splits::new`] holds a fifth out instead). With a limit, the classes are as balanced as they can be. The
    /// images of the first four lie in memory; pictures are
    /// [decoded when they are asked for](ImageDataset::is_lazy).
    ///
    /// # Errors
    /// [`DataError::NotThere`], which says how to obtain the data set, if `path` does not exist;
    /// [`Error::Data`] if a file is missing, damaged or not of the data set's format.
    pub fn load(self, path: impl AsRef<Path>, limits: Limits, seed: u64) -> Result<Splits> {
        let path = path.as_ref();
        if !path.exists() {
            let info = self.info();
            return Err(DataError::NotThere {
                path: path.into(),
                title: info.title,
                home_page: info.home_page,
                files: info.files,
            }
            .into());
        }
        let kind = match self {
            Self::CelebA => return celeba(path, limits),
            Self::Folder => return folder(path, FOLDER.shape.height, limits, seed),
            Self::ImageNet => {
                let (train, test) = imagenet(path, limits)?;
                return Ok(Splits {
                    train,
                    validation: test.clone(),
                    test,
                });
            }
            Self::Mnist => DatasetKind::Mnist,
            Self::FashionMnist => DatasetKind::FashionMnist,
            Self::Cifar10 => DatasetKind::Cifar10,
            Self::Cifar100 => DatasetKind::Cifar100,
        };
        let (train, test) = load(path, kind)?;
        let limited = |data: ImageDataset, limit: Option<usize>| match limit {
            Some(limit) => data.take_balanced(limit),
            None => data,
        };
        Splits::new(
            limited(train, limits.train),
            limited(test, limits.test),
            seed,
        )
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|task| task.info().name == name);
        found.ok_or_else(|| {
            Error::parameter(
                "task",
                name,
                "mnist, fashion-mnist, cifar10, cifar100, celeba, imagenet or folder",
            )
        })
    }
}
