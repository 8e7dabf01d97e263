//! Denoisers in files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dfdx::nn::BuildOnDevice;
use ssprop::checkpoint::{self, Metadata};
use ssprop::diffusion::{SampleRun, SampleStep, Sampler};
use ssprop::distributed::Communicator;
use ssprop::prelude::*;
use ssprop::{Backend, Error};

use super::{Classes, Drawing, Draws, Guidance, Process, ToSize, Told, UNet, Untold, CLASSES};

const MODEL: &str = "model";

/// A denoiser in a file: a model alone, or a training run's checkpoint, of which the moving average
/// is taken if it has one.
pub struct Checkpoint {
    path: PathBuf,
    pub unet: UNet,
    pub process: Process,
    /// The classes that it can be told; none of a network of before, or of one that was trained without.
    pub classes: Option<Classes>,
    metadata: Metadata,
}

impl Checkpoint {
    /// Reads what the file says of itself.
    pub fn open(path: &Path) -> ssprop::Result<Self> {
        let metadata = checkpoint::read_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            unet: value(path, &metadata, MODEL, "unet-mnist or unet-celeba")?,
            process: Process::read(path, &metadata)?,
            classes: Classes::read(path, &metadata)?,
            metadata,
        })
    }

    /// The data set that it was trained on, if the file says so.
    pub fn data(&self) -> Option<&str> {
        self.metadata.get("data").map(String::as_str)
    }

    /// How its images came to its size; of files that say nothing of it they were kept.
    pub fn to_size(&self) -> ToSize {
        ToSize::read(&self.metadata)
    }

    /// Epochs of its training, if the file says so.
    pub fn epochs(&self) -> Option<&str> {
        // A model alone, or a training run's checkpoint.
        let epochs = self.metadata.get("epochs").or(self.metadata.get("epoch"));
        epochs.map(String::as_str)
    }

    /// Whether it is a training run's checkpoint with a moving average.
    pub fn is_average(&self) -> bool {
        self.metadata.contains_key("ema_updates")
    }

    /// What flags say of classes and the guidance scale: for a network that can be told classes all of them
    /// in turn and 1 unless told otherwise.
    ///
    /// # Errors
    /// For either flag if the network cannot be told classes; for a class that it has not.
    pub fn guidance(
        &self,
        classes: Option<&str>,
        scale: Option<f64>,
    ) -> ssprop::Result<Option<Guidance>> {
        let Some(known) = &self.classes else {
            let range = "left out: the checkpoint's network was trained without classes \
                         (ddpm_train --classes trains one with)";
            return match (classes, scale) {
                (Some(classes), _) => Err(Error::parameter("--class", classes, range)),
                (None, Some(scale)) => Err(Error::parameter("--guidance", scale, range)),
                (None, None) => Ok(None),
            };
        };
        Ok(Some(Guidance {
            classes: match classes {
                Some(classes) => known.find(classes)?,
                None => (0..CLASSES).collect(),
            },
            scale: scale.unwrap_or(1.0),
        }))
    }

    /// Draws samples, shared out among ranks, with what [`guidance`](Self::guidance) returned.
    pub fn sample<D: Backend<f32>>(
        &self,
        ranks: &Communicator,
        dev: &D,
        sampler: &Sampler,
        guidance: Option<Guidance>,
        run: SampleRun,
        observer: &mut dyn FnMut(&SampleStep<'_>),
    ) -> ssprop::Result<Vec<f32>> {
        let drawing = Drawing {
            ranks,
            sampler,
            diffusion: &self.process.diffusion()?,
            run,
        };
        match (self.unet, guidance) {
            (UNet::Mnist, Some(guidance)) => self
                .draw::<ClassConditional<MnistUNet, CLASSES, 64>, _, D, 1, 32, 32>(
                    &Told(guidance),
                    &drawing,
                    dev,
                    observer,
                ),
            (UNet::Mnist, None) => {
                self.draw::<MnistUNet, _, D, 1, 32, 32>(&Untold, &drawing, dev, observer)
            }
            (UNet::CelebA, _) => {
                self.draw::<CelebAUNet, _, D, 3, 64, 64>(&Untold, &drawing, dev, observer)
            }
        }
    }

    /// Draws with the network of type `B`, which has to be the file's.
    fn draw<B, M, D, const C: usize, const H: usize, const W: usize>(
        &self,
        how: &impl Draws<M, D, C, H, W>,
        drawing: &Drawing<'_>,
        dev: &D,
        observer: &mut dyn FnMut(&SampleStep<'_>),
    ) -> ssprop::Result<Vec<f32>>
    where
        B: BuildOnDevice<D, f32, Built = M>,
        M: TensorCollection<f32, D>,
        D: Backend<f32>,
    {
        let mut net = B::build_on_device(dev);
        match self.is_average() {
            true => checkpoint::load_average(&self.path, &mut net)?,
            false => checkpoint::load(&self.path, &mut net)?,
        };
        checkpoint::check_finite(&self.path.display().to_string(), &net)?;
        how.draw(drawing, &net, dev, observer)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = "an unknown number of";
        write!(
            f,
            "{}: {}, {} epochs on {}, {} timesteps ({}), predicts {}",
            self.path.display(),
            self.unet.name(),
            self.epochs().unwrap_or(unknown),
            self.data().unwrap_or("unknown data"),
            self.process.timesteps,
            self.process.beta_schedule,
            self.process.parameterization,
        )?;
        match &self.classes {
            Some(classes) => write!(f, ", of classes ({classes})"),
            None => Ok(()),
        }
    }
}

pub(super) fn value<T: FromStr>(
    path: &Path,
    metadata: &Metadata,
    key: &str,
    range: &'static str,
) -> ssprop::Result<T> {
    let text = metadata.get(key).map_or("(missing)", String::as_str);
    text.parse().map_err(|_| Error::StoredValue {
        place: path.display().to_string(),
        name: key.to_owned(),
        value: text.to_owned(),
        range,
    })
}
