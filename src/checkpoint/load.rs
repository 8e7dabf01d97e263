//! Loading of models.

use std::path::Path;

use dfdx::nn::TensorCollection;

use super::element::StoredElement;
use super::foreign::{Adapted, Expected};
use super::{check_all, file, is_of_training, model, Metadata};
use crate::backend::Backend;
use crate::error::{Error, Result};

/// How [`load`](Self::load) and [`load_partial`](Self::load_partial) take what does not fit as it is.
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::checkpoint::{save, LoadOptions, Metadata};
///
/// # fn main() -> ssprop::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("net.safetensors");
/// let dev = Cpu::default();
/// save(&path, &dev.build_module::<Linear<3, 2>, f64>(), &Metadata::new())?;
///
/// let mut model = dev.build_module::<Linear<3, 2>, f32>();
/// assert!(ssprop::checkpoint::load(&path, &mut model).is_err());
/// LoadOptions::new().narrow_f64(true).load(&path, &mut model)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    narrow_f64: bool,
    skip_mismatched: bool,
}

/// What [`load_partial`](super::load_partial) found.
#[derive(Debug, Clone, PartialEq)]
pub struct Partial {
    /// The file's metadata.
    pub metadata: Metadata,
    /// What the model has and the file has not, and which has been left as it was.
    pub missing: Vec<String>,
    /// What the file has and the model has not, by the file's names.
    pub unexpected: Vec<String>,
    /// What has another shape in the model, by the file's names, and has been left as it was there
    /// ([`LoadOptions::skip_mismatched`]).
    pub mismatched: Vec<String>,
}

impl LoadOptions {
    /// f64 is an error for a model in f32, another shape an error.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether f64 in the file is rounded for a model in f32.
    #[must_use]
    pub fn narrow_f64(self, narrow_f64: bool) -> Self {
        Self { narrow_f64, ..self }
    }

    /// Whether [`load_partial`](Self::load_partial) leaves out what has another shape in the model:
    /// another number of classes, another stem.
    #[must_use]
    pub fn skip_mismatched(self, skip_mismatched: bool) -> Self {
        Self {
            skip_mismatched,
            ..self
        }
    }

    /// As [`load`](super::load()).
    ///
    /// # Errors
    /// As there, and [`Error::StoredValue`] if a value is too large for f32.
    pub fn load<M, E, D>(&self, path: impl AsRef<Path>, model: &mut M) -> Result<Metadata>
    where
        M: TensorCollection<E, D>,
        E: StoredElement,
        D: Backend<E>,
    {
        let path = path.as_ref();
        let bytes = file::read(path)?;
        let (stored, metadata) = file::parse(path, &bytes)?;
        let place = path.display().to_string();
        let mut expected = model::expected(model)?;
        let mut found = Adapted::new(stored, &expected);
        check_matches(&found, &expected, &place)?;
        found.convert(&expected, E::DTYPE, self.narrow_f64, &place)?;
        // PyTorch keeps such numbers outside of its state.
        let of_pytorch = metadata.get("format").is_some_and(|format| format == "pt");
        expected.retain(|part| of_pytorch && part.is_number);
        let optional = |name: &str| expected.iter().any(|part| part.name == name);
        check_all(model, &found.stored, &place, &optional).map_err(|err| found.explain(err))?;
        model::set(model, &found.stored)?;
        Ok(metadata)
    }

    /// As [`load_partial`](super::load_partial()).
    ///
    /// # Errors
    /// As there, and [`Error::StoredValue`] if a value is too large for f32.
    pub fn load_partial<M, E, D>(&self, path: impl AsRef<Path>, model: &mut M) -> Result<Partial>
    where
        M: TensorCollection<E, D>,
        E: StoredElement,
        D: Backend<E>,
    {
        let path = path.as_ref();
        let bytes = file::read(path)?;
        let (stored, metadata) = file::parse(path, &bytes)?;
        let place = path.display().to_string();
        let expected = model::expected(model)?;
        let mut found = Adapted::new(stored, &expected);
        let mut mismatched = Vec::new();
        if self.skip_mismatched {
            mismatched = found.take_mismatched(&expected);
        }
        check_matches(&found, &expected, &place)?;
        found.convert(&expected, E::DTYPE, self.narrow_f64, &place)?;
        let differences = model::check(model, &found.stored, &place);
        let differences = differences.map_err(|err| found.explain(err))?;
        model::set(model, &found.stored)?;
        let missing = differences.missing.into_iter().map(|(name, _)| name);
        let unexpected = differences.unexpected.iter();
        let unexpected = unexpected.map(|(name, _)| found.file_name(name).to_owned());
        Ok(Partial {
            metadata,
            missing: missing.collect(),
            unexpected: unexpected.filter(|name| !is_of_training(name)).collect(),
            mismatched,
        })
    }
}

/// An error if the model has tensors and the file none of them.
fn check_matches(found: &Adapted, expected: &[Expected], place: &str) -> Result<()> {
    let matches = |part: &Expected| found.stored.contains_key(&part.name);
    if expected.is_empty() || expected.iter().any(matches) {
        return Ok(());
    }
    let names = found.stored.keys().map(|name| found.file_name(name));
    Err(Error::NothingMatches {
        place: place.to_owned(),
        found: names.map(str::to_owned).collect(),
        expected: expected.iter().map(|part| part.name.clone()).collect(),
    })
}
