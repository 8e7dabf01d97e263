//! Denoising diffusion: images drawn by a network that takes noise away step by step
//! ([arXiv 2006.11239](https://arxiv.org/abs/2006.11239)).
//!
//! A [`BetaSchedule`] says how much noise each timestep adds, a [`Diffusion`] noises images and
//! knows the way back, a [`DiffusionTrainer`] teaches a [`Denoiser`] that way, and a [`Sampler`]
//! draws images with it. The network is known through traits: anything that takes images
//! (B, C, H, W) with their timesteps (B) and gives tensors of the images' shape.
//!
//! A network that is told classes ([`ClassDenoiser`]) is trained by
//! [`train_class_epoch`](DiffusionTrainer::train_class_epoch), and draws the classes that [`Guided`] names.
//!
//! Everything random follows from seeds, and not from the number of threads.
//!
//! ```
//! use ssprop::data::{BatchLoader, ImageDataset, ImageShape, Normalization};
//! use ssprop::diffusion::{evaluate, Loss, Timesteps};
//! use ssprop::prelude::*;
//!
//! /// Predicts no noise at all. A network in its place is a `TrainableDenoiser`.
//! struct Silent;
//! type Images = Tensor<(usize, Const<1>, Const<4>, Const<4>), f32, Cpu>;
//! impl Module<(Images, Timesteps<Cpu>)> for Silent {
//!     type Output = Images;
//!     type Error = ssprop::Error;
//!     fn try_forward(&self, (x, _): (Images, Timesteps<Cpu>)) -> ssprop::Result<Images> {
//!         Ok(x * 0.0)
//!     }
//! }
//!
//! let dev = Cpu::default();
//! let data = ImageDataset::new(vec![255; 100 * 16], vec![0; 100], ImageShape::new(1, 4, 4), 1)?;
//! let loader = BatchLoader::new(&data, 32)?.normalize(Normalization::symmetric(1))?;
//! let diffusion = Diffusion::new(BetaSchedule::Linear, 100)?;
//! // The variance of the noise.
//! let loss = evaluate::<1, 4, 4, _, _>(&Silent, &diffusion, Loss::L2, &dev, &loader, 0)?;
//! assert!((loss - 1.0).abs() < 0.2);
//! # Ok::<(), ssprop::Error>(())
//! ```

mod guidance;
mod model;
mod noise;
mod objective;
mod parameterization;
mod predict;
mod process;
mod sampler;
mod schedule;
mod trainer;

pub use guidance::Guided;
pub use model::{
    ClassDenoiser, Classes, Denoiser, Timesteps, TrainableClassDenoiser, TrainableDenoiser,
};
pub use objective::evaluate;
pub use parameterization::{Loss, Parameterization};
pub use process::{Diffusion, PMeanVariance};
pub use sampler::{SampleRun, SampleStep, Sampler};
pub use schedule::BetaSchedule;
pub use trainer::DiffusionTrainer;
