//! What a checkpoint of a denoiser says of itself, so that samples can be drawn with it.

mod checkpoint;
mod classes;
mod drawing;

use std::path::Path;
use std::str::FromStr;

use ssprop::checkpoint::Metadata;
use ssprop::data::{Fit, ImageDataset, ImageShape};
use ssprop::diffusion::{BetaSchedule, Diffusion, Parameterization, Sampler};
use ssprop::Error;

use checkpoint::value;
pub use checkpoint::Checkpoint;
pub use classes::{scale, Classes, CLASSES};
pub use drawing::{Drawing, Draws, Guidance, Told, Untold};

/// Samples that go through a network at once.
pub const SAMPLE_BATCH: usize = 64;

/// The networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UNet {
    /// `MnistUNet<1>`
    Mnist,
    /// `CelebAUNet`
    CelebA,
}

impl UNet {
    /// What checkpoints call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mnist => "unet-mnist",
            Self::CelebA => "unet-celeba",
        }
    }

    /// The images that it is trained on.
    pub fn shape(self) -> ImageShape {
        match self {
            Self::Mnist => ImageShape::new(1, 32, 32),
            Self::CelebA => ImageShape::new(3, 64, 64),
        }
    }
}

impl FromStr for UNet {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let all = [Self::Mnist, Self::CelebA];
        all.into_iter().find(|net| net.name() == name).ok_or(())
    }
}

/// How images of another size come to that of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ToSize {
    /// Each side by a factor of its own
    Resize,
    /// In the middle of black, or the square in the middle
    #[default]
    Keep,
}

impl ToSize {
    /// What a file says; one that says nothing is of before there was a choice.
    pub fn read(metadata: &Metadata) -> Self {
        match metadata.get(TO_SIZE).map(String::as_str) {
            Some("resize") => Self::Resize,
            _ => Self::Keep,
        }
    }

    /// The images at a network's size, or as they are, to be put in the middle of black.
    ///
    /// # Errors
    /// As [`ImageDataset::resized`].
    pub fn apply(self, data: ImageDataset, shape: ImageShape) -> ssprop::Result<ImageDataset> {
        match self {
            Self::Resize => data
                .with_fit(Fit::Squeeze)
                .resized(shape.height, shape.width),
            Self::Keep => Ok(data.with_fit(Fit::Square)),
        }
    }
}

/// The diffusion that a network was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub timesteps: usize,
    pub beta_schedule: BetaSchedule,
    pub parameterization: Parameterization,
}

const TIMESTEPS: &str = "timesteps";
const BETA_SCHEDULE: &str = "beta-schedule";
const PARAMETERIZATION: &str = "parameterization";
/// What files say of [`ToSize::Resize`].
pub const TO_SIZE: &str = "fit";

impl Process {
    pub fn diffusion(&self) -> ssprop::Result<Diffusion> {
        let diffusion = Diffusion::new(self.beta_schedule, self.timesteps)?;
        Ok(diffusion.with_parameterization(self.parameterization))
    }

    pub fn write(&self, metadata: &mut Metadata) {
        for (key, value) in [
            (TIMESTEPS, self.timesteps.to_string()),
            (BETA_SCHEDULE, self.beta_schedule.to_string()),
            (PARAMETERIZATION, self.parameterization.to_string()),
        ] {
            metadata.insert(key.to_owned(), value);
        }
    }

    /// That of the checkpoint at `path`, whose metadata these are.
    pub fn read(path: &Path, metadata: &Metadata) -> ssprop::Result<Self> {
        Ok(Self {
            timesteps: value(path, metadata, TIMESTEPS, "a number of timesteps")?,
            beta_schedule: value(path, metadata, BETA_SCHEDULE, "a beta schedule")?,
            parameterization: value(path, metadata, PARAMETERIZATION, "a parameterization")?,
        })
    }
}

/// How samples are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SamplerKind {
    /// Ancestral sampling, through all timesteps
    Ddpm,
    /// DDIM, which can leave timesteps out
    Ddim,
}

impl SamplerKind {
    /// The sampler that visits `steps` of the process's timesteps: by default all with DDPM, 50 with
    /// DDIM, which draws the share `eta` of the noise.
    pub fn with(
        self,
        steps: Option<usize>,
        eta: Option<f64>,
        process: &Process,
    ) -> ssprop::Result<Sampler> {
        let all = process.timesteps;
        let sampler = match (self, steps, eta) {
            (Self::Ddim, steps, eta) => Sampler::Ddim {
                steps: steps.unwrap_or(50.min(all)),
                eta: eta.unwrap_or(0.0),
            },
            (Self::Ddpm, _, Some(eta)) => {
                return Err(Error::parameter("--eta", eta, "given with --sampler ddim"));
            }
            (Self::Ddpm, Some(steps), _) if steps != all => {
                let value = format_args!("{steps} of {all}");
                let range = "all of the checkpoint's timesteps (fewer need --sampler ddim)";
                return Err(Error::parameter("--steps", value, range));
            }
            (Self::Ddpm, ..) => Sampler::Ancestral,
        };
        sampler.timesteps(&process.diffusion()?)?;
        Ok(sampler)
    }
}

/// What a line or a table calls a sampler.
pub fn describe(sampler: &Sampler, process: &Process) -> String {
    match *sampler {
        Sampler::Ancestral => format!("ddpm, {} steps", process.timesteps),
        Sampler::Ddim { steps, eta: 0.0 } => format!("ddim, {steps} steps"),
        Sampler::Ddim { steps, eta } => format!("ddim, {steps} steps, eta {eta}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_says_what_it_was_trained_on() {
        let process = Process {
            timesteps: 50,
            beta_schedule: BetaSchedule::SqrtLinear,
            parameterization: Parameterization::V,
        };
        let mut metadata = Metadata::new();
        let path = Path::new("a/b.safetensors");
        let err = Process::read(path, &metadata).unwrap_err().to_string();
        assert!(err.contains("a/b") && err.contains("timesteps"), "{err}");
        process.write(&mut metadata);
        assert_eq!(Process::read(path, &metadata).unwrap(), process);
        metadata.insert(BETA_SCHEDULE.into(), "steep".into());
        let err = Process::read(path, &metadata).unwrap_err().to_string();
        assert!(err.contains("steep"), "{err}");
    }
    #[test]
    fn ancestral_sampling_leaves_no_timestep_out() {
        let process = Process {
            timesteps: 20,
            beta_schedule: BetaSchedule::Cosine,
            parameterization: Parameterization::Eps,
        };
        let with = |kind: SamplerKind, steps, eta| kind.with(steps, eta, &process);
        let name = |sampler: ssprop::Result<Sampler>| describe(&sampler.unwrap(), &process);
        assert_eq!(name(with(SamplerKind::Ddpm, None, None)), "ddpm, 20 steps");
        assert_eq!(
            name(with(SamplerKind::Ddpm, Some(20), None)),
            "ddpm, 20 steps"
        );
        assert_eq!(name(with(SamplerKind::Ddim, None, None)), "ddim, 20 steps");
        let all_noise = with(SamplerKind::Ddim, Some(5), Some(1.0));
        assert_eq!(name(all_noise), "ddim, 5 steps, eta 1");
        for (kind, steps, eta, text) in [
            (SamplerKind::Ddpm, Some(19), None, "--steps = 19 of 20"),
            (SamplerKind::Ddpm, None, Some(0.5), "--eta = 0.5"),
            (SamplerKind::Ddim, Some(21), None, "steps = 21 of 20"),
        ] {
            let err = with(kind, steps, eta).unwrap_err().to_string();
            assert!(err.contains(text), "{err}");
        }
    }
}
