//! Training of image classifiers, and of whatever has an [`Objective`].
//!
//! A [`Trainer`] holds a model, its optimizer and the number of epochs done. It knows the model
//! through the traits that [`ImageClassifier`] sums up, prints nothing, and tells an [`Observer`]
//! how it goes. [`Trainer::save`] and [`Trainer::resume`] let a run go on, also within an epoch, bit
//! for bit as if it had not stopped. The bits depend on the seed but not on the number of threads;
//! they hold for one instruction set (AVX-512, AVX2 or neither), which sets the order of sums.
//!
//! ```
//! use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
//! use ssprop::prelude::*;
//!
//! // Two classes: black and white.
//! let pixels = (0..16 * 36).map(|i| if i / 36 % 2 == 1 { 255 } else { 0 }).collect();
//! let labels = (0..16).map(|i| i % 2).collect();
//! let data = ImageDataset::new(pixels, labels, ImageShape::new(1, 6, 6), 2)?;
//! let loader = BatchLoader::new(&data, 4)?.shuffle(0);
//!
//! type Net = (SparseConv2D<1, 8, 3, 1, 1>, ReLU, GlobalAvgPool, Linear<8, 2>);
//! let dev = Cpu::seed_from_u64(0);
//! let model = dev.build_module::<Net, f32>();
//! let config = AdamConfig { lr: 0.02, ..AdamConfig::adam() };
//! let schedule = Schedule::alternating(DropRate::new(0.5)?);
//! let mut trainer = Trainer::new(model, config)?.with_schedule(schedule)?;
//! for _ in 0..10 {
//!     trainer.train_epoch::<1, 6, 6, 2>(&dev, &loader, &mut ())?;
//! }
//! let test = trainer.evaluate::<1, 6, 6, 2>(&dev, &loader)?;
//! assert_eq!(test.accuracy(), 1.0);
//! # Ok::<(), ssprop::Error>(())
//! ```
//!
//! A [multi-label data set](crate::data::ImageDataset::multi_label) is trained and evaluated by the
//! same calls: the loss is then the binary cross entropy of each label, the accuracy its mean over
//! the labels.

mod classification;
mod classifier;
mod confusion;
mod drop_rates;
mod early_stopping;
mod epoch;
mod evaluate;
mod mixup;
mod objective;
mod options;
mod report;
mod saved;
mod step;
mod targets;
mod trainer;
mod unfinished;

pub use classifier::{ImageClassifier, Images, Logits};
pub use confusion::ConfusionMatrix;
pub use early_stopping::EarlyStopping;
pub use evaluate::{evaluate, evaluate_by_class, Evaluation};
pub use objective::{LossTensor, Metrics, Objective, Place};
pub(crate) use report::whole_epoch;
pub use report::{BatchReport, EpochReport, Observer, Seconds};
pub use trainer::Trainer;
