//! The network whose features are compared.

use std::path::Path;

use common::ddpm::{ToSize, TO_SIZE};
use ssprop::checkpoint::{self, Metadata};
use ssprop::data::{BatchLoader, DatasetKind, ImageDataset, ImageShape, Normalization};
use ssprop::eval::{statistics_of, FeatureStatistics};
use ssprop::models::modules;
use ssprop::prelude::*;
use ssprop::run::Progress;
use ssprop::Backend;

/// What the network sees of every image, with values in [-1, 1].
pub const SHAPE: ImageShape = ImageShape::new(1, 32, 32);
const CLASSES: usize = 10;
const BATCH_SIZE: usize = 64;
const LR: f64 = 1e-3;

type Architecture = Cnn<4, CLASSES, 1>;
type Net<D> = modules::Cnn<4, CLASSES, 1, f32, D>;

/// A network and what its file says of it.
pub struct FeatureNetwork<D: Backend<f32>> {
    /// Where it runs.
    pub dev: D,
    net: Net<D>,
    metadata: Metadata,
}

/// The batches that the network sees.
fn loader(data: &ImageDataset) -> ssprop::Result<BatchLoader> {
    BatchLoader::new(data, BATCH_SIZE)?
        .normalize(Normalization::symmetric(1))?
        .fit_to(SHAPE)
}

impl<D: Backend<f32>> FeatureNetwork<D> {
    pub fn load(dev: D, path: &Path) -> ssprop::Result<Self> {
        let mut net = Architecture::build_on_device(&dev);
        let metadata = checkpoint::load(path, &mut net)?;
        checkpoint::check_finite(&path.display().to_string(), &net)?;
        Ok(Self { dev, net, metadata })
    }

    /// What the file says of it.
    pub fn describe(&self) -> String {
        let get = |key: &str| self.metadata.get(key).map_or("unknown", String::as_str);
        format!(
            "{} trained on {} images of {} for {} epochs, test accuracy {}",
            get("model"),
            get("training images"),
            get("task"),
            get("epochs"),
            get("test accuracy"),
        )
    }

    /// The data set that it was trained on.
    pub fn task(&self) -> Option<&str> {
        self.metadata.get("task").map(String::as_str)
    }

    /// How its images came to their size.
    pub fn to_size(&self) -> ToSize {
        ToSize::read(&self.metadata)
    }

    /// The statistics of the features of these images.
    pub fn statistics(&self, data: &ImageDataset) -> ssprop::Result<FeatureStatistics> {
        statistics_of::<1, 32, 32, _, _>(&self.net, &self.dev, &loader(data)?)
    }

    /// The share of these images that it classifies as they are labelled.
    pub fn accuracy(&self, data: &ImageDataset) -> ssprop::Result<f64> {
        let result = evaluate::<1, 32, 32, CLASSES, _, _>(&self.net, &self.dev, &loader(data)?)?;
        Ok(result.accuracy())
    }
}

/// Trains the network and saves it, after every epoch.
pub fn train<D: Backend<f32>>(
    dev: &D,
    path: &Path,
    task: DatasetKind,
    fit: ToSize,
    (train, test): &(ImageDataset, ImageDataset),
    epochs: usize,
    seed: u64,
) -> ssprop::Result<()> {
    let config = AdamConfig {
        lr: LR,
        ..AdamConfig::adam()
    };
    let mut trainer: Trainer<Net<D>, D> = Trainer::new(Architecture::build_on_device(dev), config)?;
    let (train_loader, test_loader) = (loader(train)?.shuffle(seed), loader(test)?);
    let mut progress = Progress::new(epochs as u64);
    for epoch in 1..=epochs {
        // The last epoch settles where the others have led.
        if epoch == epochs && epochs > 1 {
            trainer.optimizer.set_lr(0.1 * LR)?;
        }
        let report =
            trainer.train_epoch::<1, 32, 32, CLASSES>(dev, &train_loader, &mut progress)?;
        let result = trainer.evaluate::<1, 32, 32, CLASSES>(dev, &test_loader)?;
        progress.line(&format!(
            "epoch {epoch}/{epochs}: training loss {:.4}, test accuracy {:.2}%, {:.0} s",
            report.loss,
            100.0 * result.accuracy(),
            report.seconds.total(),
        ));
        let mut metadata: Metadata = [
            ("model", "Cnn<4, 10, 1>".to_owned()),
            ("task", task.to_string()),
            ("training images", train.len().to_string()),
            ("epochs", epoch.to_string()),
            ("batch-size", BATCH_SIZE.to_string()),
            ("lr", format!("{LR}, in the last epoch a tenth")),
            ("seed", seed.to_string()),
            ("input", format!("{SHAPE}, in [-1, 1]")),
            (
                "test accuracy",
                format!("{:.2}%", 100.0 * result.accuracy()),
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if fit == ToSize::Resize {
            metadata.insert(TO_SIZE.to_owned(), "resize".to_owned());
        }
        checkpoint::save(path, &trainer.model, &metadata)?;
    }
    progress.finish();
    Ok(())
}
