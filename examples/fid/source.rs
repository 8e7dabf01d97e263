//! Where the images come from that are compared with the real test images.

use std::path::Path;

use ssprop::data::{DatasetKind, ImageDataset};
use ssprop::diffusion::{SampleRun, Sampler};
use ssprop::distributed::Communicator;
use ssprop::{Backend, Error};

use common::ddpm::{describe, Checkpoint, Guidance, ToSize, UNet, SAMPLE_BATCH};
use common::grid::{read_folder, to_dataset};
use common::progress::Sampling;

/// Samples, if their number is not given.
const SAMPLES: usize = 1000;

/// A source of images.
pub enum Source<'a> {
    /// The real training images.
    Training,
    /// A folder of PNGs.
    Folder(&'a Path),
    /// A network that draws them.
    Samples(Samples<'a>),
}

impl Source<'_> {
    /// What the table calls it.
    pub fn name(&self) -> String {
        match self {
            Self::Training => "real training images".into(),
            Self::Folder(folder) => folder.display().to_string(),
            Self::Samples(samples) => samples.name(),
        }
    }

    /// How they came to the network's size, where that is known.
    pub fn to_size(&self) -> Option<ToSize> {
        match self {
            Self::Samples(samples) => Some(samples.checkpoint.to_size()),
            _ => None,
        }
    }

    /// Whether each image is known to be of a class.
    pub fn has_classes(&self) -> bool {
        match self {
            Self::Training => true,
            Self::Folder(_) => false,
            Self::Samples(samples) => samples.guidance.is_some(),
        }
    }

    /// Its images, `count` of them if they have to be drawn; `None` if they are the real training
    /// images.
    pub fn read<D: Backend<f32>>(
        &self,
        dev: &D,
        count: Option<usize>,
    ) -> ssprop::Result<Option<ImageDataset>> {
        match self {
            Self::Training => Ok(None),
            // As the data sets have them, or as the models see them.
            Self::Folder(folder) => read_folder(folder, 1, &[(28, 28), (32, 32)]).map(Some),
            Self::Samples(samples) => samples.draw(dev, count.unwrap_or(SAMPLES)).map(Some),
        }
    }
}

/// A network, and how images are drawn with it.
pub struct Samples<'a> {
    ranks: &'a Communicator,
    path: &'a Path,
    checkpoint: Checkpoint,
    sampler: Sampler,
    guidance: Option<Guidance>,
    seed: u64,
}

impl<'a> Samples<'a> {
    /// With the network of a file, drawn by all ranks. It has to be one for this data set. `sampler` is told what the
    /// file says of the network.
    pub fn new(
        ranks: &'a Communicator,
        path: &'a Path,
        task: DatasetKind,
        sampler: impl FnOnce(&Checkpoint) -> ssprop::Result<Sampler>,
        guidance: Option<f64>,
        seed: u64,
    ) -> ssprop::Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let data = checkpoint.data().unwrap_or("unknown data");
        if checkpoint.unet != UNet::Mnist || data != task.name() {
            let unet = checkpoint.unet.name();
            return Err(Error::Format {
                path: path.to_owned(),
                what: format!(
                    "{unet} trained on {data}, not {} trained on {task}",
                    UNet::Mnist.name()
                ),
            });
        }
        Ok(Self {
            ranks,
            path,
            sampler: sampler(&checkpoint)?,
            guidance: checkpoint.guidance(None, guidance)?,
            checkpoint,
            seed,
        })
    }

    fn name(&self) -> String {
        let mut how = describe(&self.sampler, &self.checkpoint.process);
        if let Some(guidance) = &self.guidance {
            how += &format!(", guidance {}", guidance.scale);
        }
        let epochs = self.checkpoint.epochs().unwrap_or("unknown");
        format!("{} (epochs: {epochs}; {how})", self.path.display())
    }

    fn draw<D: Backend<f32>>(&self, dev: &D, count: usize) -> ssprop::Result<ImageDataset> {
        let run = SampleRun {
            seed: self.seed,
            count,
            batch: SAMPLE_BATCH.min(count),
        };
        let diffusion = self.checkpoint.process.diffusion()?;
        let progress = Sampling::new(run, self.sampler.timesteps(&diffusion)?.len());
        let images = self.checkpoint.sample(
            self.ranks,
            dev,
            &self.sampler,
            self.guidance.clone(),
            run,
            &mut |done| progress.step(done),
        )?;
        progress.finish();
        let classes = self.guidance.as_ref().map(|guidance| &guidance.classes[..]);
        let labels = classes.unwrap_or(&[0]).iter().map(|&class| class as u16);
        to_dataset(&images, UNet::Mnist.shape(), &labels.collect::<Vec<_>>())
    }
}
