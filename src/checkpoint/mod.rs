//! Models, and training in progress, in [safetensors](https://github.com/huggingface/safetensors)
//! files.
//!
//! A tensor's name in the file is its path in the model as dfdx's visitors spell it
//! (`layer1.0.conv1.weight`; a tuple's members are `0`, `1`, ...). Scalars that a model lists
//! (the epsilon of dfdx's batch norm) are f64 tensors of no dimensions, as in dfdx's own files. A
//! training checkpoint adds the state of the [`Optimizer`](crate::optim::Optimizer):
//!
//! | name | type | |
//! |---|---|---|
//! | `optimizer.step.<parameter>` | I64, no dimensions | updates that the parameter has had |
//! | `optimizer.exp_avg.<parameter>` | the parameter's, its shape | Adam's first moment |
//! | `optimizer.exp_avg_sq.<parameter>` | the parameter's, its shape | Adam's second moment |
//! | `optimizer.momentum_buffer.<parameter>` | the parameter's, its shape | the momentum of SGD |
//! | `ema.<tensor>` | the tensor's, its shape | moving average, if the run keeps one |
//!
//! Model, state and metadata share a file, so that they cannot get out of step. A file is written
//! under a temporary name in its folder, brought to the disk and renamed: one that was there before
//! stays as it is if anything fails ([`remove_remains`] clears what a killed process leaves). Loading
//! checks everything before it changes anything, a checksum of the whole file in its metadata first;
//! files without one (of earlier versions, or of PyTorch) have no such check.
//!
//! # Files of others
//!
//! [`load`] and [`load_partial`] take PyTorch's `state_dict`s, saved by `safetensors.torch.save_file`:
//!
//! - `module.` and `_orig_mod.` (`DataParallel`, `torch.compile`) are taken off if every name has them;
//! - `num_batches_tracked` is left out;
//! - f16 and bf16 are widened; f64 is an error for a model in f32, or rounded if
//!   [`LoadOptions::narrow_f64`] says so;
//! - torchvision's ResNets have `fc` for `linear` and `downsample` for `shortcut`. Its 7x7 stem and
//!   1000 classes do not fit the ResNets of this crate: an error says so, or
//!   [`LoadOptions::skip_mismatched`] loads the rest;
//! - timm's `VisionTransformer` with `class_token=False, global_pool="avg"` has the names, shapes and orders of
//!   [`ViT`](crate::models::modules::ViT) (torchvision's has other names, and a class token);
//! - dfdx's batch and layer norms may have `weight` and `bias` for `scale`, `gamma` and `beta`, and
//!   their epsilon stays as it is if the metadata say `format = pt`.
//!
//! [`save_for_pytorch`] writes what PyTorch's `load_state_dict` takes with `strict=True`, and [`save_onnx`] a network
//! with its operations, for onnxruntime and others.
//!
//! # Training
//!
//! ```
//! use dfdx::prelude::*;
//! use ssprop::checkpoint::{load_training, save_training, Metadata};
//! use ssprop::optim::{Adam, AdamConfig};
//!
//! # fn main() -> ssprop::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("run.safetensors");
//! let dev = Cpu::default();
//! let model = dev.build_module::<Linear<3, 2>, f32>();
//! let opt = Adam::new(&model, AdamConfig::adam())?;
//! let metadata = Metadata::from([("epoch".to_owned(), "7".to_owned())]);
//! save_training(&path, &model, &opt, &metadata)?;
//!
//! let mut model = dev.build_module::<Linear<3, 2>, f32>();
//! let mut opt = Adam::new(&model, AdamConfig::adam())?;
//! let metadata = load_training(&path, &mut model, &mut opt)?;
//! assert_eq!(metadata["epoch"], "7");
//! # Ok(())
//! # }
//! ```

mod checksum;
mod convert;
mod element;
mod file;
mod finite;
mod foreign;
mod load;
mod model;
mod onnx;
mod protobuf;
mod pytorch;
mod replace;
mod training;

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::Backend;
use dfdx::nn::TensorCollection;

use crate::error::{Error, Result};

pub use element::StoredElement;
pub use finite::check_finite;
pub use load::{LoadOptions, Partial};
pub use onnx::save_onnx;
pub use pytorch::save_for_pytorch;
pub use replace::remove_remains;
pub use training::{load_average, load_training, save_training};
pub(crate) use training::{load_training_with, save_training_with};

/// What else a file says, as text: the epoch, the seed, the name of the model.
pub type Metadata = BTreeMap<String, String>;

/// Begins the names of an optimizer's tensors.
const OPTIMIZER: &str = "optimizer.";
/// Begins the names of a moving average's tensors.
const EMA: &str = "ema.";

/// Whether a tensor that the model has not belongs to its training.
fn is_of_training(name: &str) -> bool {
    name.starts_with(OPTIMIZER) || name.starts_with(EMA)
}

/// Saves a model's tensors and scalars.
///
/// # Errors
/// [`Error::Io`] with the path and the cause, [`Error::DuplicateName`] if two tensors have one path
/// name, [`Error::StoredValue`] if a scalar does not fit into f64.
pub fn save<M, E, D>(path: impl AsRef<Path>, model: &M, metadata: &Metadata) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    file::write(path.as_ref(), model::entries(model)?, metadata)
}

/// Loads a model from a file that has exactly its tensors and scalars, and returns the metadata. An
/// optimizer's state and a moving average in the file are left aside. On an error the model is as it was.
///
/// Of files that PyTorch wrote, see [the module](self#files-of-others); [`LoadOptions`] has more.
///
/// # Errors
/// All name the file, and those of a tensor its name and the shapes: [`Error::Io`],
/// [`Error::Format`] for a file that is cut off or damaged, [`Error::MissingTensor`],
/// [`Error::UnexpectedTensor`], [`Error::TensorShape`], [`Error::TensorDtype`],
/// [`Error::StoredValue`], [`Error::NothingMatches`]; and [`Error::DuplicateName`],
/// [`Error::Device`].
pub fn load<M, E, D>(path: impl AsRef<Path>, model: &mut M) -> Result<Metadata>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    LoadOptions::new().load(path, model)
}

/// Loads what a file and a model have in common. On an error the model is as it was.
///
/// # Errors
/// As [`load`], except that missing and unexpected tensors are listed in the result, as long as there
/// is anything in common.
pub fn load_partial<M, E, D>(path: impl AsRef<Path>, model: &mut M) -> Result<Partial>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    LoadOptions::new().load_partial(path, model)
}

/// The metadata of a file, whatever its tensors are.
///
/// # Errors
/// [`Error::Io`], and [`Error::Format`] for a file that is cut off or damaged.
pub fn read_metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    let path = path.as_ref();
    let bytes = file::read(path)?;
    file::parse(path, &bytes).map(|(_, metadata)| metadata)
}

/// Writes any file as checkpoints are written: whole, or an error and the file as it was before.
///
/// # Errors
/// [`Error::Io`] with the path and the cause.
pub fn write_file(path: impl AsRef<Path>, content: &[u8]) -> Result<()> {
    use std::io::Write;
    replace::replace_file(path.as_ref(), |file| file.write_all(content))
}

/// An error unless `stored` has all of the model's tensors and no others than those of its
/// training, whose names it returns. What is `optional` may be missing.
fn check_all<M, E, D>(
    model: &M,
    stored: &BTreeMap<String, file::Stored>,
    place: &str,
    optional: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    let differences = model::check(model, stored, place)?;
    let place = place.to_owned();
    let mut missing = differences.missing.into_iter();
    if let Some((name, expected)) = missing.find(|(name, _)| !optional(name)) {
        return Err(Error::MissingTensor {
            place,
            name,
            expected,
        });
    }
    let mut names = Vec::new();
    for (name, found) in differences.unexpected {
        if !is_of_training(&name) {
            return Err(Error::UnexpectedTensor { place, name, found });
        }
        names.push(name);
    }
    Ok(names)
}
