//! Training on several machines: data-parallel, over MPI, with only kept rows on the wire.
//!
//! Each rank (a process of `mpirun`) has the whole network and a share of every batch. A
//! [`Trainer`](crate::train::Trainer) [with a communicator](crate::train::Trainer::with_communicator) makes
//! the steps that one process would make on the whole batches, up to rounding:
//!
//! - **Kept channels** are chosen by the importance over all ranks' images, so that all keep the same. The
//!   backward pass waits for it at each sparse layer: C_out numbers a layer travel once.
//! - **Gradients** are added up while the backward pass goes on: a layer's leave as soon as they are there.
//!   Of a sparse step only the kept rows of dW and db are sent.
//! - **Weights** stay the same on all ranks, to the bit: each gradient's sum is made by one rank and told to
//!   the others. A hash of them is compared now and then.
//! - **Batch norms** normalise by their own rank's images; their running statistics are averaged at the end
//!   of an epoch.
//!
//! ```no_run
//! use ssprop::data::BatchLoader;
//! use ssprop::distributed::Communicator;
//! use ssprop::prelude::*;
//!
//! # fn main() -> ssprop::Result<()> {
//! type Net = (SparseConv2D<1, 8, 3, 2, 1>, ReLU, GlobalAvgPool, Linear<8, 10>);
//!
//! let communicator = Communicator::from_environment()?;
//! let (images, test) = ssprop::data::bundled()?;
//! let (train, test) = (BatchLoader::new(&images, 32)?.shuffle(0), BatchLoader::new(&test, 100)?);
//! let dev = Cpu::seed_from_u64(0);
//! let mut trainer = Trainer::new(dev.build_module::<Net, f32>(), AdamConfig::adam())?
//!     .with_schedule(Schedule::alternating(DropRate::new(0.8)?))?
//!     .with_communicator(&communicator)?;
//! for _ in 0..10 {
//!     trainer.train_epoch::<1, 28, 28, 10>(&dev, &train, &mut ())?;
//!     let found = trainer.evaluate::<1, 28, 28, 10>(&dev, &test)?;
//!     if communicator.is_first() {
//!         println!("test accuracy {:.3}", found.accuracy());
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod communicator;
mod engine;
mod gradients;
mod local;
#[cfg(feature = "mpi")]
mod mpi;
mod replicas;
mod sum;
#[cfg(test)]
mod tests;
mod transport;

pub use communicator::{Communicator, Traffic};
pub(crate) use gradients::GradientExchange;
pub(crate) use replicas::{average_statistics, check_same_weights};
